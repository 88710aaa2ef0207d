// Amounts as people read them.

// Polar counts amounts as payments are made (docs/polar-facts.md#decimals). A browser's own table says how prices are
// usually rounded, which is another thing: a forint has no decimals there and hundredths here.
const WHOLE = new Set([
  "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF",
]);
const THOUSANDTHS = new Set(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]);

/** @param amount in the smallest unit that the currency is counted in: 900 of "usd" are $9.00, 900 of "jpy" are ¥900. */
export function money(amount, currency) {
  const code = currency.toUpperCase();
  const decimals = WHOLE.has(code) ? 0 : THOUSANDTHS.has(code) ? 3 : 2;
  const format = new Intl.NumberFormat("en", {
    style: "currency",
    currency: code,
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
  return format.format(amount / 10 ** decimals);
}
