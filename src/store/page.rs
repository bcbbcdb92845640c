//! Pages of lists that are read from their greatest number down, and the cursors that lead from one to the next.
//!
//! A cursor is the number of the last row that was given, so it stays right while rows are added at the head.

use super::failure::Failure;
use crate::error::Error;

/// Some rows, and the cursor of the page behind them if there is one.
pub type Page<T> = (Vec<T>, Option<String>);

/// The number below which the page begins.
pub fn parse(cursor: Option<&str>) -> Result<i64, Failure> {
    let Some(cursor) = cursor else {
        return Ok(i64::MAX);
    };
    let number = cursor.parse().ok().filter(|number: &i64| *number > 0);
    number.ok_or_else(|| Error::invalid_params("expected `cursor` to be the `next` of an earlier page").into())
}

/// How many rows to fetch for a page of at most `limit`: one more shows whether another page follows.
pub fn fetched(limit: u32) -> i64 {
    i64::from(limit.max(1)) + 1
}

/// The page out of its numbered rows.
pub fn cut<T>(mut rows: Vec<(i64, T)>, limit: u32) -> Page<T> {
    let limit = limit.max(1) as usize;
    let next = (rows.len() > limit).then(|| rows[limit - 1].0.to_string());
    rows.truncate(limit);
    (rows.into_iter().map(|(_, row)| row).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_page_has_no_next() {
        let rows = vec![(9, 'a'), (7, 'b'), (4, 'c')];
        assert_eq!(cut(rows.clone(), 2), (vec!['a', 'b'], Some("7".to_owned())));
        assert_eq!(cut(rows, 3), (vec!['a', 'b', 'c'], None));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        assert_eq!(parse(Some("7")).unwrap(), 7);
        for bad in ["", "x", "-1", "0", "1 OR 1", "99999999999999999999"] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
