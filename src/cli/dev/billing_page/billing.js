// A billing page on nothing but the organizations API: plans, the current one, a checkout, another plan, invoices, cancel
// and resume. Texts from the API are set as text, never as markup.

import { Api, ApiError } from "/api.js";
import { money } from "/money.js";

const element = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const api = new Api(async () => {
  const wanted = asked.get("organization");
  const query = wanted === null ? "" : `?organization=${encodeURIComponent(wanted)}`;
  const answer = await fetch(`/session${query}`);
  if (!answer.ok) throw new Error("Nobody is signed in.");
  return answer.json();
});

function day(moment) {
  return moment === null ? "" : new Date(moment).toLocaleDateString("en", { dateStyle: "medium" });
}

function say(text, failed = false) {
  const message = element("message");
  message.textContent = text;
  message.hidden = text === "";
  message.classList.toggle("error", failed);
}

const ADVICE = {
  402: "The card was declined. Nothing has changed.",
  403: "Only owners and admins can change the plan.",
};

/** Does something while nothing else can be clicked, and tells what went wrong. */
async function act(work) {
  const main = document.querySelector("main");
  const buttons = [...document.querySelectorAll("button")];
  main.setAttribute("aria-busy", "true");
  buttons.forEach((button) => { button.disabled = true; });
  try {
    await work();
  } catch (error) {
    const advice = error instanceof ApiError ? ADVICE[error.status] : undefined;
    say(advice ?? error.message, true);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
    main.setAttribute("aria-busy", "false");
  }
}

async function refresh() {
  const [plans, subscription, orders] = await Promise.all([
    api.get("/plans"),
    api.get("/subscription"),
    api.get("/orders?page=1&limit=20"),
  ]);
  showSubscription(subscription, plans);
  showPlans(subscription, plans);
  showOrders(orders);
  return subscription;
}

function showSubscription(subscription, plans) {
  const { plan, pending_change: pending, discount } = subscription;
  const paid = subscription.subscription_id !== null;
  const ending = subscription.cancel_at_period_end;
  element("plan").textContent = plan.name;
  element("price").textContent = `${money(subscription.amount, subscription.currency)} a ${subscription.recurring_interval}`;
  element("status").textContent = ending ? "cancelled" : subscription.status;
  const until = day(ending ? subscription.ends_at ?? subscription.current_period_end : subscription.current_period_end);
  element("period").textContent = paid ? `${ending ? "Ends" : "Renews"} on ${until}` : "";
  const next = plans.find((one) => one.product_id === pending?.product_id);
  element("pending").textContent = pending ? `Changes to ${next?.name ?? "another plan"} on ${day(pending.applies_at)}` : "";
  element("discount").textContent = discount ? `Discount: ${discount.name}` : "";
  element("cancel").hidden = !paid || ending;
  element("resume").hidden = !paid || !ending;
  element("cancel").onclick = () => act(cancel);
  element("resume").onclick = () => act(() => change(subscription.product_id));
}

function showPlans(subscription, plans) {
  const items = plans.map((plan) => {
    const item = element("plan-template").content.firstElementChild.cloneNode(true);
    const current = plan.product_id === subscription.product_id;
    item.dataset.plan = plan.name;
    item.classList.toggle("highlight", plan.highlight);
    item.querySelector("h3").textContent = plan.name;
    item.querySelector(".price").textContent = plan.price
      ? `${money(plan.price.amount, plan.price.currency)} a ${plan.recurring_interval}`
      : "";
    const fee = plan.transaction_fee;
    item.querySelector(".fee").textContent = fee ? `${fee.percent / 100} % + ${fee.fixed} cents a payment` : "";
    item.querySelector(".features").append(...plan.features.map((feature) => {
      const line = document.createElement("li");
      line.textContent = feature;
      return line;
    }));
    const button = item.querySelector("button");
    button.textContent = current ? "Your plan" : `Choose ${plan.name}`;
    // The free plan is where a cancelled subscription ends.
    button.hidden = current || plan.product_id === null;
    button.onclick = () => act(() => (subscription.subscription_id === null ? buy(plan) : change(plan.product_id)));
    return item;
  });
  element("plans").replaceChildren(...items);
}

function showOrders({ items }) {
  const rows = items.map((order) => {
    const row = document.createElement("tr");
    const texts = [
      day(order.created_at),
      order.invoice_number ?? "",
      order.product_name ?? "",
      money(order.total_amount, order.currency),
      order.status,
    ];
    row.append(...texts.map((text) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      return cell;
    }));
    const cell = document.createElement("td");
    if (order.is_invoice_generated) {
      const button = document.createElement("button");
      button.textContent = "Invoice";
      button.onclick = () => act(() => openInvoice(order));
      cell.append(button);
    }
    row.append(cell);
    row.dataset.order = order.id;
    return row;
  });
  element("orders").replaceChildren(...rows);
  element("no-orders").hidden = items.length > 0;
}

/** Without a subscription a plan is bought on Polar's page, which leads back here. */
async function buy(plan) {
  const here = `/?organization=${encodeURIComponent(api.session.organization_id)}`;
  const checkout = await api.change("POST", "/subscription", {
    product_id: plan.product_id,
    success_url: `${here}&bought=${encodeURIComponent(plan.product_id)}`,
    return_url: here,
  });
  location.assign(checkout.url);
}

/** Another plan, or the same one again: that takes a cancellation or a downgrade back. */
async function change(productId) {
  const subscription = await api.change("PATCH", "/subscription", { product_id: productId });
  await refresh();
  const pending = subscription.pending_change;
  say(pending ? `The plan changes on ${day(pending.applies_at)}.` : `You are on ${subscription.plan.name}.`);
}

async function cancel() {
  const subscription = await api.change("DELETE", "/subscription");
  await refresh();
  say(`Cancelled. You keep ${subscription.plan.name} until ${day(subscription.current_period_end)}.`);
}

/** The link lives for minutes, so it is asked for when somebody clicks. */
async function openInvoice(order) {
  const { url } = await api.get(`/orders/${order.id}/invoice`);
  location.assign(url);
}

/** Polar knows of a payment a moment after its page has led back. */
async function welcomeBack(productId) {
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const subscription = await refresh();
    if (subscription.product_id === productId) {
      say(`Thank you. You are on ${subscription.plan.name}.`);
      history.replaceState(null, "", `/?organization=${encodeURIComponent(api.session.organization_id)}`);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  say("The payment is being processed.");
}

await act(async () => {
  const session = await api.open();
  const select = element("organization");
  select.replaceChildren(...session.organizations.map(({ id, name }) => new Option(name, id, false, id === session.organization_id)));
  select.onchange = () => location.assign(`/?organization=${encodeURIComponent(select.value)}`);
  const bought = asked.get("bought");
  await (bought === null ? refresh() : welcomeBack(bought));
});
