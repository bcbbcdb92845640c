//! The figures of all rounds, and how they are printed: median, least and most, and the ratio to curl round by round.

use std::fmt::Write;

/// Figures in the order in which they were first told.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    aim: &'static str,
    ours: Vec<f64>,
    curls: Vec<f64>,
}

impl Table {
    /// Adds one round's figure of assistd and, where it can be compared, of curl.
    pub fn add(&mut self, name: &'static str, aim: &'static str, ours: Option<f64>, curls: Option<f64>) {
        let known = self.rows.iter().position(|row| row.name == name);
        let place = known.unwrap_or_else(|| {
            self.rows.push(Row {
                name,
                aim,
                ours: Vec::new(),
                curls: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[place];
        row.ours.extend(ours);
        // The two are paired by round: one without the other is of no use.
        row.curls.extend(curls.filter(|_| ours.is_some()));
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: [&str; 5]| {
            let [name, ours, curls, ratio, aim] = cells;
            let _ = writeln!(text, "{name:<38} {ours:<26} {curls:<26} {ratio:<22} {aim}");
        };
        line(["", "assistd", "curl", "× curl", "aim"]);
        for row in &self.rows {
            let ratios: Vec<f64> = row
                .ours
                .iter()
                .zip(&row.curls)
                .map(|(ours, curls)| ours / curls)
                .collect();
            line([
                row.name,
                &spread(&row.ours),
                &spread(&row.curls),
                &spread(&ratios),
                row.aim,
            ]);
        }
        text
    }
}

/// `median [least–most]`
fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted[..] {
        [] => "–".to_owned(),
        [only] => digits(only),
        [least, .., most] => format!(
            "{} [{}–{}]",
            digits(sorted[sorted.len() / 2]),
            digits(least),
            digits(most)
        ),
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
