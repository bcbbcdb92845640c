//! A secret and how long it is good.
//!
//! What tells of its end: JSON beside it, or the `exp` that a JSON Web Token has inside. Instants are of the clock that
//! tests can stop; what expired while the machine slept is found out by the upstream's refusal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::time::Instant;

use super::Secret;

/// How long before its end a token is renewed; a short-lived one a fifth of its life before.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest life that is believed, which keeps instants within what a clock can say.
const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;

/// A secret, as it was given.
#[derive(Debug, Clone)]
pub struct Token {
    /// The secret.
    pub secret: Secret,
    /// When another one is asked for, and when it is over; it has no end where absent.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    renew_at: Instant,
    expires_at: Instant,
}

impl Token {
    /// A secret that is good for this long from now on; for ever where absent.
    pub fn new(secret: Secret, life: Option<Duration>) -> Self {
        let end = life.map(|life| {
            let now = Instant::now();
            End {
                renew_at: now + life.saturating_sub(MARGIN.min(life / 5)),
                expires_at: now + life,
            }
        });
        Token { secret, end }
    }

    /// Reads what a program or a token service gave: a bare secret, or JSON with `token`, `accessToken` or
    /// `access_token`, and with `expires_on` (seconds since 1970), `expires_in` (seconds) or `expiresOn` (RFC 3339, or
    /// seconds since 1970). None if it is JSON without any of these tokens.
    pub fn read(text: &str, now: SystemTime) -> Option<Token> {
        let text = text.trim();
        if !text.starts_with('{') {
            return Some(Token::new(Secret::new(text), life_inside(text, now)));
        }
        let json: Value = serde_json::from_str(text).ok()?;
        let member = |names: &[&str]| names.iter().find_map(|name| json.get(name)).cloned();
        let token = member(&["accessToken", "access_token"]);
        let secret = match token.as_ref().and_then(Value::as_str) {
            Some(token) => Secret::token(token),
            None => Secret::new(json.get("token")?.as_str()?),
        };
        if secret.expose().is_empty() {
            return None;
        }
        let life = member(&["expires_on"])
            .and_then(|on| life_until(&on, now))
            .or_else(|| member(&["expires_in", "expiresIn"]).and_then(|seconds| duration(number(&seconds)?)))
            .or_else(|| life_inside(secret.expose(), now))
            .or_else(|| member(&["expiresOn"]).and_then(|on| life_until(&on, now)));
        Some(Token::new(secret, life))
    }

    /// The same, good for at most this long from now on.
    pub fn at_most(self, life: Option<Duration>) -> Token {
        let capped = Token::new(self.secret.clone(), life);
        match (self.end, capped.end) {
            (Some(own), Some(cap)) if own.expires_at < cap.expires_at => self,
            (_, Some(_)) => capped,
            (_, None) => self,
        }
    }

    /// Whether it need not be renewed yet.
    pub fn is_fresh(&self) -> bool {
        self.end.is_none_or(|end| Instant::now() < end.renew_at)
    }

    /// Whether its time is over.
    pub fn is_expired(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end.expires_at)
    }
}

/// How long a JSON Web Token is good, by its own word (RFC 7519, 4.1.4: `exp` counts seconds since 1970). None for
/// anything else. Nothing is verified: that is the upstream's business.
pub fn life_inside(text: &str, now: SystemTime) -> Option<Duration> {
    let mut parts = text.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    life_until(claims.get("exp")?, now)
}

/// A life of so many seconds, if that is a number to believe.
pub fn duration(seconds: f64) -> Option<Duration> {
    seconds
        .is_finite()
        .then(|| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST)))
}

/// From now to a time that is given in seconds since 1970 or as RFC 3339 has it.
fn life_until(time: &Value, now: SystemTime) -> Option<Duration> {
    let until = match number(time) {
        Some(seconds) => seconds,
        None => rfc3339(time.as_str()?)?,
    };
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    duration(until - now)
}

/// Services give numbers as text, too.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Seconds since 1970 of `2026-11-22T13:05:01Z`, with or without a fraction, with `Z` or an offset. A time without
/// either is somebody's local time, which tells nothing here.
fn rfc3339(text: &str) -> Option<f64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    let offset = match zone.split_at(1) {
        ("Z" | "z", "") => 0.0,
        (sign, zone) => {
            let (hours, minutes) = zone.split_once(':')?;
            let minutes = hours.parse::<f64>().ok()? * 60.0 + minutes.parse::<f64>().ok()?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let known = (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..10_000).contains(&year);
    known.then(|| days(year, month, day) as f64 * 86_400.0 + hours * 3600.0 + (minutes - offset) * 60.0 + seconds)
}

/// Days since 1970 in the Gregorian calendar. A year is counted from March, so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Its life in seconds, which began just now.
    fn life(text: &str) -> Option<u64> {
        let token = Token::read(text, at(1_000_000_000)).unwrap();
        let left = |end: End| end.expires_at - Instant::now();
        token.end.map(left).map(|life| life.as_secs_f64().round() as u64)
    }

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[tokio::test(start_paused = true)]
    async fn every_way_to_tell_of_the_end_is_understood() {
        let token = jwt(r#"{"exp":1000000600}"#);
        let rows = [
            ("sk-bare".to_owned(), None),
            (token.clone(), Some(600)),
            (jwt(r#"{"exp":999}"#), Some(0)),
            (jwt("{}"), None),
            (format!(r#"{{"token":"{token}"}}"#), Some(600)),
            (r#"{"token":"k"}"#.to_owned(), None),
            (r#"{"token":"k","expires_in":90}"#.to_owned(), Some(90)),
            (r#"{"access_token":"k","expires_in":"90"}"#.to_owned(), Some(90)),
            (
                r#"{"accessToken":"k","expiresOn":"2001-09-09 03:46:40.000000","expires_on":1000000060}"#.to_owned(),
                Some(60),
            ),
            (
                r#"{"token":"k","expiresOn":"2001-09-09T01:46:50Z"}"#.to_owned(),
                Some(10),
            ),
            (
                r#"{"token":"k","expiresOn":"2001-09-09T03:46:50.0+02:00"}"#.to_owned(),
                Some(10),
            ),
            (
                r#"{"token":"k","expiresOn":"2001-09-08T21:46:50-04:00"}"#.to_owned(),
                Some(10),
            ),
            // A local time tells nothing.
            (
                r#"{"token":"k","expiresOn":"2001-09-09 03:46:40.000000"}"#.to_owned(),
                None,
            ),
            (r#"{"token":"k","expires_in":1e300}"#.to_owned(), Some(LONGEST as u64)),
            (r#"{"token":"k","expires_in":"soon"}"#.to_owned(), None),
        ];
        for (text, expected) in rows {
            assert_eq!(life(&text), expected, "{text}");
        }
        for none in [r#"{"token":""}"#, r#"{"key":"k"}"#, r#"{"token":5}"#, "{"] {
            assert!(Token::read(none, at(0)).is_none(), "{none}");
        }
    }

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        for (date, expected) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 22), 20_779),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_a_minute_before_its_end() {
        let token = Token::new(Secret::new("k"), Some(Duration::from_secs(3600)));
        tokio::time::advance(Duration::from_secs(3539)).await;
        assert!(token.is_fresh());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!token.is_fresh() && !token.is_expired());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(token.is_expired());
        let short = Token::new(Secret::new("k"), Some(Duration::from_secs(50)));
        tokio::time::advance(Duration::from_secs(39)).await;
        assert!(short.is_fresh(), "a short-lived one is not asked for without end");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!short.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_the_settings_only_shortens() {
        let life = |own: Option<u64>, cap: Option<u64>| {
            let duration = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            let token = Token::new(Secret::new("k"), duration(own)).at_most(duration(cap));
            token.end.map(|end| (end.expires_at - Instant::now()).as_secs())
        };
        assert_eq!(life(Some(100), Some(50)), Some(50));
        assert_eq!(life(Some(50), Some(100)), Some(50));
        assert_eq!(life(None, Some(100)), Some(100));
        assert_eq!(life(Some(50), None), Some(50));
        assert_eq!(life(None, None), None);
    }
}
