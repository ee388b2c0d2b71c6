//! One table, as text or as JSON, and the bars.

use serde::Serialize;

/// What was measured on one side.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// The median.
    Is(f64),
    /// It was stopped there.
    AtLeast(f64),
    /// Why there is none.
    Absent(&'static str),
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Seconds,
    Micros,
    Nanos,
    Bytes,
    Count,
    Percent,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 1.0 => format!("{:.3} ms", value * 1e3),
            Self::Seconds => format!("{value:.3} s"),
            Self::Micros => format!("{value:.3} µs"),
            Self::Nanos => format!("{value:.2} ns"),
            Self::Bytes if value < 10_000.0 => format!("{value:.1} B"),
            Self::Bytes => format!("{} B", grouped(value as u64)),
            Self::Count => grouped(value as u64),
            Self::Percent => format!("{value:.2} %"),
        }
    }
}

#[derive(Serialize)]
struct Row {
    what: String,
    size: Option<u64>,
    unit: Unit,
    suffuse: Cell,
    elara_diffusion: Cell,
    /// The other's value by that of suffuse: above 1 suffuse needs less. At least this if the other was stopped.
    ratio: Option<f64>,
}

/// The rows in the order in which they were measured.
#[derive(Default)]
pub struct Report(Vec<Row>);

impl Report {
    pub fn row(&mut self, what: &str, size: Option<u64>, unit: Unit, suffuse: Cell, elara_diffusion: Cell) {
        let ratio = ratio(suffuse, elara_diffusion);
        self.0.push(Row { what: what.to_owned(), size, unit, suffuse, elara_diffusion, ratio });
    }
}

#[derive(Serialize)]
struct Bar {
    bar: String,
    /// Nothing if this run cannot tell.
    holds: Option<bool>,
    found: String,
}

/// What suffuse means to reach.
#[derive(Default)]
pub struct Bars(Vec<Bar>);

impl Bars {
    pub fn judge(&mut self, bar: &str, holds: Option<bool>, found: String) {
        self.0.push(Bar { bar: bar.to_owned(), holds, found });
    }

    pub fn judge_ratio(&mut self, bar: &str, suffuse: Cell, elara_diffusion: Cell, least: f64) {
        match ratio(suffuse, elara_diffusion) {
            Some(found) => self.judge(bar, Some(found >= least), format!("{} times", short(found))),
            None => self.judge(bar, None, "one side was not measured".to_owned()),
        }
    }
}

pub fn print_table(Report(rows): &Report, Bars(bars): &Bars) {
    let mut reasons: Vec<&str> = Vec::new();
    let mut show = |cell, unit: Unit| match cell {
        Cell::Is(value) => unit.show(value),
        Cell::AtLeast(value) => format!("> {}", unit.show(value)),
        Cell::Absent(reason) => {
            let known = reasons.iter().position(|&known| known == reason).unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            format!("[{}]", known + 1)
        }
    };
    let mut lines = vec![["", "size", "suffuse", "elara-diffusion 0.2.0", "ratio"].map(str::to_owned)];
    for row in rows {
        lines.push([
            row.what.clone(),
            row.size.map(grouped).unwrap_or_default(),
            show(row.suffuse, row.unit),
            show(row.elara_diffusion, row.unit),
            row.ratio.map(short).unwrap_or_default(),
        ]);
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for [what, size, ours, theirs, ratio] in &lines {
        let [a, b, c, d, e] = widths;
        println!("{what:<a$}  {size:>b$}  {ours:>c$}  {theirs:>d$}  {ratio:>e$}");
    }
    for (number, reason) in reasons.iter().enumerate() {
        println!("[{}] {reason}", number + 1);
    }
    println!("\nTimes are processor times. Ratio: elara-diffusion / suffuse; above 1 suffuse needs less.\n");
    for Bar { bar, holds, found } in bars {
        let verdict = match holds {
            Some(true) => "holds     ",
            Some(false) => "MISSED    ",
            None => "not judged",
        };
        println!("{verdict}  {bar}: {found}");
    }
}

pub fn print_json(Report(rows): &Report, Bars(bars): &Bars) {
    println!("{}", serde_json::json!({ "rows": rows, "bars": bars }));
}

fn ratio(suffuse: Cell, elara_diffusion: Cell) -> Option<f64> {
    match (suffuse, elara_diffusion) {
        (Cell::Is(ours), Cell::Is(theirs) | Cell::AtLeast(theirs)) => Some(theirs / ours),
        _ => None,
    }
}

fn short(ratio: f64) -> String {
    if ratio < 100.0 { format!("{ratio:.2}") } else { grouped(ratio as u64) }
}

/// With a comma between thousands.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
