//! Times in messages: ISO 8601, with an offset or, rarely, without one.

use super::Malformed;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Milliseconds since 1970 of an `eta` or `expires` header.
///
/// A time without an offset is in the application's `timezone` setting, not UTC and not the host's
/// (`celery/worker/request.py`).
///
/// # Errors
/// [`Malformed::Time`].
pub fn parse(field: &'static str, text: &str, naive: &TimeZone) -> Result<i64, Malformed> {
    let bad = || Malformed::Time { field, value: text.to_owned() };
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_millisecond());
    }
    let local: DateTime = text.trim_end_matches('Z').parse().map_err(|_| bad())?;
    // Python's last day, which may stand for "never", is beyond the last instant there is here.
    let edge = if local.year() > 0 { Timestamp::MAX } else { Timestamp::MIN };
    Ok(naive.to_timestamp(local).unwrap_or(edge).as_millisecond())
}

/// ISO 8601 in UTC with microseconds, as Python's `datetime.isoformat()` writes it.
pub fn format(millis: i64) -> String {
    let instant = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    let text = jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%S.%6f+00:00", instant);
    text.unwrap_or_else(|_| instant.to_string())
}

/// An `eta` or `expires` header as Python shows it once it has an offset: a time without one is in the zone `naive`.
pub fn aware(text: &str, naive: &TimeZone) -> String {
    if let Some(text) = text.strip_suffix('Z') {
        return format!("{text}+00:00");
    }
    let offset = text.parse::<DateTime>().ok().filter(|_| text.parse::<Timestamp>().is_err());
    let offset = offset.and_then(|local| Some(naive.to_offset(naive.to_timestamp(local).ok()?)));
    match offset.map(|offset| offset.seconds()) {
        Some(seconds) => {
            let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
            format!("{text}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
        None => text.to_owned(),
    }
}

/// Age for people: `3 min 20 s`.
pub fn humanize(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_naive_times() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(parse("eta", "2031-01-01T00:00:00+00:00", &berlin).unwrap(), 1_924_992_000_000);
        assert_eq!(parse("eta", "2031-01-01T00:00:00.250000Z", &berlin).unwrap(), 1_924_992_000_250);
        assert_eq!(parse("eta", "2031-01-01T00:00:00", &berlin).unwrap(), 1_924_988_400_000);
        assert!(parse("eta", "tomorrow", &berlin).is_err());
        assert!(parse("eta", "99999-01-01T00:00:00", &berlin).is_err());
        for last in ["9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59Z"] {
            assert_eq!(parse("expires", last, &berlin).unwrap(), Timestamp::MAX.as_millisecond());
        }
    }

    #[test]
    fn a_time_gets_its_offset() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (text, aware_text) in [
            ("2031-01-01T00:00:00.250000+00:00", "2031-01-01T00:00:00.250000+00:00"),
            ("2031-01-01T00:00:00Z", "2031-01-01T00:00:00+00:00"),
            ("2031-07-01T00:00:00.250000", "2031-07-01T00:00:00.250000+02:00"),
            ("2031-07-01T00:00:00-05:00", "2031-07-01T00:00:00-05:00"),
            ("tomorrow", "tomorrow"),
        ] {
            assert_eq!(aware(text, &berlin), aware_text);
        }
        let newfoundland = TimeZone::posix("NST3:30").unwrap();
        assert_eq!(aware("2031-01-01T00:00:00", &newfoundland), "2031-01-01T00:00:00-03:30");
    }

    #[test]
    fn formatted_as_python_does() {
        assert_eq!(format(1_924_992_000_250), "2031-01-01T00:00:00.250000+00:00");
    }
}
