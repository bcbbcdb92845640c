//! What an upstream says of its limits in an answer's headers, and how long it wants to be left alone.
//!
//! `Retry-After` is RFC 9110's (10.2.3), `retry-after-ms` and `x-ratelimit-…` are what OpenAI began and others took up.
//! Pure: the clock is handed in.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::protocol::RateLimit;

/// The limits, if anything is said of them.
pub fn told(headers: &HeaderMap) -> Option<RateLimit> {
    let text = |name: &str| text(headers, name).map(str::to_owned);
    let number = |name: &str| text(name)?.parse().ok();
    let limit = RateLimit {
        remaining_requests: number("x-ratelimit-remaining-requests"),
        remaining_tokens: number("x-ratelimit-remaining-tokens"),
        reset_requests: text("x-ratelimit-reset-requests"),
        reset_tokens: text("x-ratelimit-reset-tokens"),
    };
    (limit != RateLimit::default()).then_some(limit)
}

/// How long the upstream wants to be left alone: by its own word, else, where it has refused for its limits, until the
/// limit that is used up is there again.
pub fn retry_after(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let asked = text(headers, "retry-after-ms")
        .and_then(|text| seconds(text.parse::<f64>().ok()? / 1000.0))
        .or_else(|| after(text(headers, RETRY_AFTER.as_str())?, headers, now));
    asked.or_else(|| {
        let limit = told(headers).filter(|_| status == StatusCode::TOO_MANY_REQUESTS)?;
        until_reset(&limit)
    })
}

/// Seconds, or a date. The upstream's own clock counts, if it tells the time.
fn after(text: &str, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Ok(number) = text.parse() {
        return seconds(number);
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let its_now = self::text(headers, DATE.as_str()).and_then(|now| httpdate::parse_http_date(now).ok());
    // A date that has passed means at once.
    Some(date.duration_since(its_now.unwrap_or(now)).unwrap_or_default())
}

/// The time until what is used up is there again; where it is not said what that is, until the first of them is.
fn until_reset(limit: &RateLimit) -> Option<Duration> {
    let reset = |text: &Option<String>| duration(text.as_deref()?);
    let (requests, tokens) = (reset(&limit.reset_requests), reset(&limit.reset_tokens));
    let used_up = [(limit.remaining_requests, requests), (limit.remaining_tokens, tokens)];
    let waits = used_up.into_iter().filter(|(left, _)| *left == Some(0));
    let longest = waits.filter_map(|(_, reset)| reset).max();
    longest.or_else(|| [requests, tokens].into_iter().flatten().min())
}

/// `6m0s`, `1.5s`, `120ms`, `1h2m`, or a bare number of seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(number) = rest.parse() {
        return seconds(number);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(unit);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    (!text.trim().is_empty()).then(|| seconds(total))?
}

fn seconds(number: f64) -> Option<Duration> {
    (number.is_finite() && number >= 0.0).then(|| Duration::from_secs_f64(number.min(1e6)))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use reqwest::header::HeaderName;

    use super::*;

    /// In milliseconds, asked at 2026-10-21 07:28:00.
    fn delay(status: u16, headers: &[(&str, &str)]) -> Option<u128> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let now = UNIX_EPOCH + Duration::from_secs(1_792_567_680);
        retry_after(StatusCode::from_u16(status).unwrap(), &map, now).map(|delay| delay.as_millis())
    }

    #[test]
    fn the_upstreams_own_word_counts_first() {
        assert_eq!(delay(503, &[("retry-after", "7")]), Some(7000));
        assert_eq!(delay(503, &[("retry-after", "0.5")]), Some(500));
        assert_eq!(delay(429, &[("retry-after", "7"), ("retry-after-ms", "20")]), Some(20));
        assert_eq!(
            delay(429, &[("retry-after", "7"), ("x-ratelimit-reset-requests", "9s")]),
            Some(7000)
        );
        for nonsense in ["-1", "soon", "inf", "NaN", ""] {
            assert_eq!(delay(429, &[("retry-after", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(delay(429, &[]), None);
    }

    #[test]
    fn a_date_is_seen_from_the_upstreams_clock() {
        let date = ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT");
        assert_eq!(delay(503, &[date]), Some(30_000));
        assert_eq!(
            delay(503, &[date, ("date", "Wed, 21 Oct 2026 07:28:20 GMT")]),
            Some(10_000)
        );
        assert_eq!(delay(503, &[("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT")]), Some(0));
    }

    #[test]
    fn the_limit_that_is_used_up_says_when_to_come_again() {
        let requests = ("x-ratelimit-reset-requests", "1s");
        let tokens = ("x-ratelimit-reset-tokens", "6m0s");
        let used_up = |name: &'static str| (name, "0");
        assert_eq!(delay(429, &[requests, tokens]), Some(1000));
        assert_eq!(
            delay(429, &[requests, tokens, used_up("x-ratelimit-remaining-tokens")]),
            Some(360_000)
        );
        assert_eq!(
            delay(429, &[requests, tokens, used_up("x-ratelimit-remaining-requests")]),
            Some(1000)
        );
        assert_eq!(delay(429, &[tokens]), Some(360_000));
        assert_eq!(delay(503, &[requests]), None, "it was not refused for its limits");
    }

    #[test]
    fn durations_are_read_in_every_spelling() {
        let rows = [
            ("1s", Some(1000)),
            ("6m0s", Some(360_000)),
            ("120ms", Some(120)),
            ("1.5s", Some(1500)),
            ("1h2m3s", Some(3_723_000)),
            ("1m30.951s", Some(90_951)),
            ("2d", Some(172_800_000)),
            ("12", Some(12_000)),
            ("0s", Some(0)),
            ("", None),
            ("1", Some(1000)),
            ("s", None),
            ("1x", None),
            ("1s2", None),
            ("-1s", None),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text).map(|delay| delay.as_millis()), expected, "{text}");
        }
    }
}
