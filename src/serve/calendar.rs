//! When a command of `[cron]` runs next: the fields of crontab(5), in the server's time zone.
//!
//! Where the clock is set forward, what would have run in the hour that is missing runs an hour later
//! by the clock; where it is set back, what has a fixed hour runs in the first of the two hours, and what
//! runs at every hour in both.

use std::fmt::Write as _;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// How far ahead a time is looked for: 29 February comes every eight years at worst. In days.
const HORIZON: i32 = 366 * 9;

/// The times that a command runs at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    days: Vec<i8>,
    months: Vec<i8>,
    /// From 0, which is Sunday, to 6.
    weekdays: Vec<i8>,
    /// The hour is `*`, with or without a step.
    every_hour: bool,
    /// Both the day of the month and the day of the week are said: either will do (crontab(5)).
    either_day: bool,
}

impl FromStr for Calendar {
    type Err = String;

    /// `hourly`, `daily`, `weekly` (on Sunday), `monthly`, or five fields. The error completes the
    /// sentence "'TEXT' …".
    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text {
            "hourly" => "0 * * * *",
            "daily" => "0 0 * * *",
            "weekly" => "0 0 * * 0",
            "monthly" => "0 0 1 * *",
            fields => fields,
        };
        let fields: Vec<&str> = text.split(' ').collect();
        let &[minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err("has not five fields".to_owned());
        };
        let mut week: Vec<i8> = values(weekdays, 0, 7)?.into_iter().map(|day| day % 7).collect();
        week.sort_unstable();
        week.dedup();
        Ok(Calendar {
            minutes: values(minutes, 0, 59)?,
            hours: values(hours, 0, 23)?,
            days: values(days, 1, 31)?,
            months: values(months, 1, 12)?,
            weekdays: week,
            every_hour: hours.starts_with('*'),
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }
}

fn values(field: &str, low: i8, high: i8) -> Result<Vec<i8>, String> {
    let wrong = || format!("has a field that is none: '{}'", field.escape_default());
    let number = |text: &str| text.parse::<i8>().ok().filter(|n| (low..=high).contains(n)).ok_or_else(wrong);
    let mut all = Vec::new();
    for item in field.split(',') {
        let (span, step) = item.split_once('/').map_or((item, None), |(span, step)| (span, Some(step)));
        let step: u8 = step.map_or(Ok(1), |step| step.parse().map_err(|_| wrong()))?;
        let (first, last) = match span.split_once('-') {
            _ if span == "*" => (low, high),
            Some((first, last)) => (number(first)?, number(last)?),
            // One number with a step: from it on.
            None if item.contains('/') => (number(span)?, high),
            None => (number(span)?, number(span)?),
        };
        if step == 0 {
            return Err(wrong());
        }
        all.extend((first..=last).step_by(usize::from(step)));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

impl Calendar {
    /// The first time after `after`; none where no day is like that (30 February).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // A time that is missing may have moved into the next day.
        let mut date = after.to_zoned(zone.clone()).date().yesterday().ok()?;
        for _ in 0..HORIZON {
            if let Some(found) = self.first_of(date, after, zone) {
                let next = date.tomorrow().ok().and_then(|next| self.first_of(next, after, zone));
                return Some(next.map_or(found, |next| found.min(next)));
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn first_of(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.is_day(date) {
            return None;
        }
        let mut first: Option<Timestamp> = None;
        for (hour, minute) in self.hours.iter().flat_map(|h| self.minutes.iter().map(move |m| (*h, *m))) {
            let Ok(time) = Time::new(hour, minute, 0, 0) else { continue };
            let there = zone.to_ambiguous_timestamp(date.to_datetime(time));
            let later = self.every_hour.then(|| there.later().ok()).flatten();
            let times = [there.compatible().ok(), later.filter(|_| there_twice(date, time, zone))];
            first = times.into_iter().flatten().filter(|time| *time > after).chain(first).min();
        }
        first
    }

    fn is_day(&self, date: Date) -> bool {
        let day = self.days.contains(&date.day());
        let weekday = self.weekdays.contains(&(date.weekday().to_sunday_zero_offset()));
        let either = if self.either_day { day || weekday } else { day && weekday };
        self.months.contains(&date.month()) && either
    }

    /// The same for systemd's timers, in its own words (systemd.time(7)): all of them together.
    pub fn on_calendar(&self) -> Vec<String> {
        const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        let list = |values: &[i8]| values.iter().map(|n| format!("{n:02}")).collect::<Vec<_>>().join(",");
        let at = format!("{}:{}:00", list(&self.hours), list(&self.minutes));
        let expression = |weekdays: bool, days: bool| {
            let mut text = String::new();
            if weekdays && self.weekdays.len() < 7 {
                let names = self.weekdays.iter().filter_map(|day| NAMES.get(usize::try_from(*day).ok()?));
                text = names.copied().collect::<Vec<_>>().join(",") + " ";
            }
            let days = if days && self.days.len() < 31 { list(&self.days) } else { "*".to_owned() };
            let _ = write!(text, "*-{}-{days} {at}", list(&self.months));
            text
        };
        if self.either_day {
            vec![expression(true, false), expression(false, true)]
        } else {
            vec![expression(true, true)]
        }
    }
}

/// Whether the clock shows a time twice on a day, because it is set back.
fn there_twice(date: Date, time: Time, zone: &TimeZone) -> bool {
    let there = zone.to_ambiguous_timestamp(date.to_datetime(time));
    matches!(there.offset(), jiff::tz::AmbiguousOffset::Fold { .. })
}

/// The server's time zone.
pub fn zone() -> TimeZone {
    TimeZone::system()
}

/// How long it is until a time, from now; nothing where it has passed.
pub fn until(time: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use proptest::prelude::*;

    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn runs(text: &str, from: &str, zone: &TimeZone, number: usize) -> Vec<String> {
        let calendar: Calendar = text.parse().unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut all = Vec::new();
        for _ in 0..number {
            at = calendar.next(at, zone).unwrap();
            all.push(at.to_zoned(zone.clone()).strftime("%m-%d %H:%M %z").to_string());
        }
        all
    }

    #[test]
    fn words_and_fields_mean_what_crontab_says() {
        let utc = TimeZone::UTC;
        let from = "2026-11-22T19:05:30Z"; // a Sunday
        assert_eq!(runs("hourly", from, &utc, 2), ["11-22 20:00 +0000", "11-22 21:00 +0000"]);
        assert_eq!(runs("daily", from, &utc, 1), ["11-23 00:00 +0000"]);
        assert_eq!(runs("weekly", from, &utc, 1), ["11-29 00:00 +0000"]);
        assert_eq!(runs("monthly", from, &utc, 1), ["12-01 00:00 +0000"]);
        assert_eq!(runs("*/20 * * * *", from, &utc, 2), ["11-22 19:20 +0000", "11-22 19:40 +0000"]);
        assert_eq!(runs("30 4 1,15 * 5", from, &utc, 2), ["11-27 04:30 +0000", "12-01 04:30 +0000"]);
        assert_eq!(runs("0 0 * * 7", from, &utc, 1), ["11-29 00:00 +0000"]);
        assert_eq!(runs("0 0 29 2 *", from, &utc, 1), ["02-29 00:00 +0000"]);
        assert!("0 0 30 2 *".parse::<Calendar>().unwrap().next(from.parse().unwrap(), &utc).is_none());
    }

    #[test]
    fn a_time_that_is_missing_or_twice_on_the_clock_comes_once() {
        let zone = berlin();
        let spring = runs("30 2 * * *", "2026-03-27T12:00:00Z", &zone, 3);
        assert_eq!(spring, ["03-28 02:30 +0100", "03-29 03:30 +0200", "03-30 02:30 +0200"]);
        let autumn = runs("30 2 * * *", "2026-10-24T12:00:00Z", &zone, 2);
        assert_eq!(autumn, ["10-25 02:30 +0200", "10-26 02:30 +0100"]);
        let hourly = runs("hourly", "2026-10-24T23:30:00Z", &zone, 3);
        assert_eq!(hourly, ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"]);
        let hourly = runs("hourly", "2026-03-29T00:30:00Z", &zone, 2);
        assert_eq!(hourly, ["03-29 03:00 +0200", "03-29 04:00 +0200"]);
    }

    #[test]
    fn systemd_is_told_the_same_times_in_its_own_words() {
        let words = |text: &str| text.parse::<Calendar>().unwrap().on_calendar();
        let months = "01,02,03,04,05,06,07,08,09,10,11,12";
        assert_eq!(words("30 4 * * *"), [format!("*-{months}-* 04:30:00")]);
        assert_eq!(words("0,30 4 * 2 1-5"), ["Mon,Tue,Wed,Thu,Fri *-02-* 04:00,30:00"]);
        assert_eq!(words("30 4 1 2 0"), ["Sun *-02-* 04:30:00", "*-02-01 04:30:00"]);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "yearly", "60 * * * *", "* * * *", "*/0 * * * *", "+1 * * * * *", "a * * * *"] {
            assert!(bad.parse::<Calendar>().is_err(), "{bad:?}");
        }
    }

    fn field(low: u8, high: u8) -> impl Strategy<Value = String> {
        prop_oneof![
            Just("*".to_owned()),
            (low..=high).prop_map(|n| n.to_string()),
            (1..=high.max(2)).prop_map(|step| format!("*/{step}")),
            (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    proptest! {
        #[test]
        fn the_next_time_is_the_first_that_the_fields_name(
            minute in field(0, 59), hour in field(0, 23), weekday in field(0, 7),
            start in 1_700_000_000_i64..1_900_000_000,
        ) {
            let calendar: Calendar = format!("{minute} {hour} * * {weekday}").parse().unwrap();
            let start = Timestamp::from_second(start).unwrap();
            let found = calendar.next(start, &TimeZone::UTC).unwrap();
            prop_assert!(found > start);
            let fits = |at: Timestamp| {
                let there = at.to_zoned(TimeZone::UTC);
                calendar.minutes.contains(&there.minute()) && calendar.hours.contains(&there.hour())
                    && calendar.is_day(there.date()) && there.second() == 0
            };
            prop_assert!(fits(found));
            let mut minute = Timestamp::from_second(start.as_second() / 60 * 60 + 60).unwrap();
            while minute < found {
                prop_assert!(!fits(minute), "{minute} fits, and {found} was found");
                minute = minute.checked_add(1.minute()).unwrap();
            }
        }

        #[test]
        fn what_has_a_fixed_hour_runs_once_on_every_day(
            minute in 0_i8..60, hour in 0_i8..24, start in 1_700_000_000_i64..1_900_000_000,
        ) {
            let zone = berlin();
            let calendar: Calendar = format!("{minute} {hour} * * *").parse().unwrap();
            let mut at = calendar.next(Timestamp::from_second(start).unwrap(), &zone).unwrap();
            for _ in 0..400 {
                let next = calendar.next(at, &zone).unwrap();
                let day = |time: Timestamp| time.to_zoned(zone.clone()).date();
                prop_assert_eq!(day(at).tomorrow().unwrap(), day(next));
                at = next;
            }
        }
    }
}
