//! Faults are asked for on a command line and named in a log.

use crate::faults::{Faults, FaultsError, NAMES};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const CALL_KINDS: usize = 6;

fn rate(key: &str, value: &str) -> Result<f64, FaultsError> {
    let wrong = || FaultsError::Rate {
        key: key.into(),
        value: value.into(),
    };
    let parsed = match value.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0,
        None => value.parse::<f64>().map_err(|_| wrong())?,
    };
    if (0.0..=1.0).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(wrong())
    }
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(spec: &str) -> Result<Self, FaultsError> {
        let mut faults = Self::default();
        let items = spec
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty() && *item != "none");
        for item in items {
            faults.apply(item)?;
        }
        let rates = faults.slots().map(|slot| *slot);
        // A hair of slack: six sixths may not add up to one.
        let whole = 1.0 + 1e-9;
        if rates[..CALL_KINDS].iter().sum::<f64>() > whole {
            return Err(FaultsError::TooMuch("call faults"));
        }
        if rates[CALL_KINDS..].iter().sum::<f64>() > whole {
            return Err(FaultsError::TooMuch("delivery faults"));
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.clone().slots().map(|slot| *slot);
        for (name, rate) in NAMES.iter().zip(rates).filter(|(_, rate)| *rate > 0.0) {
            write!(f, "{name}={rate},")?;
        }
        let hold = self.timeout_hold.as_millis();
        write!(
            f,
            "timeout-ms={hold},retry-after={},retry-scale={}",
            self.retry_after, self.retry_scale
        )
    }
}

impl Faults {
    fn slots(&mut self) -> [&mut f64; 10] {
        [
            &mut self.too_many_requests,
            &mut self.error_before,
            &mut self.error_after,
            &mut self.timeout,
            &mut self.drop_before,
            &mut self.drop_after,
            &mut self.duplicate,
            &mut self.reorder,
            &mut self.late,
            &mut self.lost,
        ]
    }

    fn spread(&mut self, range: std::ops::Range<usize>, rate: f64) {
        let kinds = f64::from(u32::try_from(range.len()).unwrap_or(1));
        for slot in &mut self.slots()[range] {
            **slot = rate / kinds;
        }
    }

    fn apply(&mut self, item: &str) -> Result<(), FaultsError> {
        let Some((key, value)) = item.split_once('=') else {
            let rate = rate("calls", item)?;
            self.spread(0..CALL_KINDS, rate);
            self.spread(CALL_KINDS..NAMES.len(), rate);
            return Ok(());
        };
        let (key, value) = (key.trim(), value.trim());
        let wrong = || FaultsError::Number {
            key: key.into(),
            value: value.into(),
        };
        match key {
            "calls" => self.spread(0..CALL_KINDS, rate(key, value)?),
            "deliveries" => self.spread(CALL_KINDS..NAMES.len(), rate(key, value)?),
            "timeout-ms" => {
                self.timeout_hold = Duration::from_millis(value.parse().map_err(|_| wrong())?)
            }
            "retry-after" => self.retry_after = value.parse().map_err(|_| wrong())?,
            "retry-scale" => {
                let scale: f64 = value.parse().map_err(|_| wrong())?;
                self.retry_scale = if scale.is_finite() && scale >= 0.0 {
                    scale
                } else {
                    return Err(wrong());
                };
            }
            _ => {
                let position = NAMES.iter().position(|name| *name == key);
                let position = position.ok_or_else(|| FaultsError::UnknownKey(key.into()))?;
                *self.slots()[position] = rate(key, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed parse is a failed test

    use super::*;

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn a_bare_rate_is_both_groups_at_that_rate() {
        for spec in ["0.12", "12%", "calls=0.12,deliveries=12%"] {
            let faults: Faults = spec.parse().unwrap();
            assert!(
                near(faults.timeout, 0.02) && near(faults.lost, 0.03),
                "{spec}: {faults}"
            );
        }
    }

    #[test]
    fn text_and_back_is_the_same_day() {
        let faults: Faults =
            "calls=0.3,429=0,lost=25%,timeout-ms=300,retry-scale=0.01,retry-after=2"
                .parse()
                .unwrap();
        assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
        assert_eq!("".parse::<Faults>().unwrap(), Faults::default());
        assert_eq!("none".parse::<Faults>().unwrap(), Faults::default());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = |spec: &str| spec.parse::<Faults>().unwrap_err().to_string();
        assert!(error("explode=1").contains("unknown fault `explode`"));
        assert!(error("lost=2").contains("lost=2"));
        assert!(error("timeout-ms=soon").contains("timeout-ms"));
        assert!(error("retry-scale=-1").contains("retry-scale"));
        assert!(error("429=0.6,timeout=0.6").contains("call faults"));
    }

    #[test]
    fn faults_come_as_often_as_asked() {
        let faults: Faults = "429=0.25,lost=0.5".parse().unwrap();
        let mut dice = rand::SeedableRng::seed_from_u64(7);
        let calls = (0..4000)
            .filter(|_| faults.roll_call(&mut dice).is_some())
            .count();
        let lost = (0..4000)
            .filter(|_| faults.roll_attempt(&mut dice).is_some())
            .count();
        assert!(
            (900..1100).contains(&calls) && (1900..2100).contains(&lost),
            "{calls} {lost}"
        );
    }
}
