//! Durations and sizes. Both need their unit: a bare number is read as seconds by one reader and as
//! milliseconds by the next.

use super::problem::Complaint;
use std::time::Duration;

/// What a kind of quantity is made of.
struct Scale {
    /// Word for messages.
    noun: &'static str,
    /// Unit and how many base units it stands for, smallest first.
    units: &'static [(&'static str, u64)],
    /// Unit named in the remedy for a bare number.
    usual: &'static str,
}

const TIME: Scale = Scale {
    noun: "duration",
    units: &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
    usual: "s",
};

const SIZE: Scale = Scale {
    noun: "size",
    units: &[
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ],
    usual: "MiB",
};

/// Reads `"200ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"`.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    TIME.read(text).map(Duration::from_millis)
}

/// Reads a duration as the configuration writes it, `30s` for instance; for durations on the command line.
///
/// # Errors
/// Why it is none, and what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|Complaint { reason, remedy }| format!("{reason}; {remedy}"))
}

/// Reads `"512B"`, `"64KiB"`, `"10MB"`, `"1GiB"` as bytes.
pub(super) fn size(text: &str) -> Result<u64, Complaint> {
    SIZE.read(text)
}

/// The complaint about a number without quotes where a duration belongs.
pub(super) fn bare_duration(number: i64) -> Complaint {
    TIME.bare(&number.to_string())
}

/// The complaint about a number without quotes where a size belongs.
pub(super) fn bare_size(number: i64) -> Complaint {
    SIZE.bare(&number.to_string())
}

/// A duration in its largest whole unit, as it would be written in the file.
pub fn show_duration(duration: Duration) -> String {
    TIME.show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A number of bytes in its largest whole unit, as it would be written in the file.
pub fn show_size(bytes: u64) -> String {
    SIZE.show(bytes)
}

impl Scale {
    fn read(&self, text: &str) -> Result<u64, Complaint> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim_start());
        if number.is_empty() || unit.starts_with(['.', ',', '_']) {
            return Err(Complaint::new(format!("is not a {}", self.noun), self.remedy()));
        }
        if unit.is_empty() {
            return Err(self.bare(number));
        }
        let Some((_, factor)) = self.units.iter().find(|(name, _)| *name == unit) else {
            let reason = format!("{unit:?} is not a unit of a {}", self.noun);
            return Err(Complaint::new(reason, self.remedy()));
        };
        let number: Option<u64> = number.parse().ok();
        // Signed 64 bits is what every consumer can hold, Redis and Lua included.
        let limit = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
        number
            .and_then(|number| number.checked_mul(*factor))
            .filter(|total| *total <= limit)
            .ok_or_else(|| Complaint::new("is too large a number", self.remedy()))
    }

    fn bare(&self, number: &str) -> Complaint {
        let reason = format!("is a number without a unit; units are {}", self.names());
        Complaint::new(reason, format!("write for example \"{number}{}\", in quotes", self.usual))
    }

    fn remedy(&self) -> String {
        format!("write a whole number and one of {} in quotes, for example \"30{}\"", self.names(), self.usual)
    }

    fn names(&self) -> String {
        self.units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    fn show(&self, total: u64) -> String {
        let whole = |(_, factor): &&(&str, u64)| total >= *factor && total.is_multiple_of(*factor);
        let (unit, factor) =
            self.units.iter().filter(whole).max_by_key(|(_, factor)| *factor).unwrap_or(&self.units[0]);
        format!("{}{unit}", total / factor)
    }
}

/// Tasks a second, written as Celery's `rate_limit` (`celery/utils/time.py`, `rate`): `10/s`, `100/m`, `5/h`, or the
/// number alone. 0 means no limit there; whether it does here is for the caller to say. None for anything else.
pub fn parse_rate(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once('/').unwrap_or((text, ""));
    let seconds = match unit.trim() {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let rate = number.trim().parse::<f64>().ok()? / seconds;
    (rate.is_finite() && (0.0..=1e6).contains(&rate)).then_some(rate)
}

/// The same as a value of the file, where 0 is refused.
pub(super) fn rate(value: &toml::Value) -> Result<f64, Complaint> {
    let text = match value {
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::String(text) => Some(text.clone()),
        _ => None,
    };
    text.as_deref().and_then(parse_rate).filter(|rate| *rate > 0.0).ok_or_else(|| {
        let remedy = "write it as in Celery: \"10/s\", \"100/m\" or \"5/h\"; to stop a tenant or a queue, pause it";
        Complaint::new("is not a rate", remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_known() {
        let cases =
            [("0s", 0), ("200ms", 200), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), (" 2 d ", 172_800_000)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let cases = [("1B", 1), ("10MB", 10_000_000), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 1 << 30)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_number_and_a_unit_is_refused() {
        for text in
            ["", "s", "5", "5 ", "-5s", "+5s", "1.5s", "1_000s", "5S", "5sec", "5m30s", "٣s", "99999999999999999999s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "10", "10M", "10mib", "10 Mi B", "9999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_quantity_is_shown_as_it_is_written() {
        for text in ["200ms", "30s", "5m", "36h", "1d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["0B", "1500B", "10MB", "64MiB", "1GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
