//! Figures beside what they are to be.

use std::fmt::Write as _;

/// One figure and its aim.
#[derive(Clone, Debug)]
pub struct Aim {
    name: String,
    value: f64,
    aim: f64,
    most: bool,
}

impl Aim {
    /// A share that is to be reached.
    pub fn at_least(name: impl Into<String>, value: f64, aim: f64) -> Self {
        Self { name: name.into(), value, aim, most: false }
    }

    /// A share that is not to be passed.
    pub fn at_most(name: impl Into<String>, value: f64, aim: f64) -> Self {
        Self { name: name.into(), value, aim, most: true }
    }

    fn is_met(&self) -> bool {
        if self.most { self.value <= self.aim } else { self.value >= self.aim }
    }
}

/// All aims as a table.
pub fn table(aims: &[Aim]) -> String {
    let mut out = String::from("| figure | reached | aim | |\n|---|---|---|---|\n");
    for aim in aims {
        let (sign, met) = (if aim.most { "≤" } else { "≥" }, if aim.is_met() { "met" } else { "**missed**" });
        let _ = writeln!(
            out,
            "| {} | {:.2} % | {sign} {:.1} % | {met} |",
            aim.name,
            aim.value * 100.0,
            aim.aim * 100.0
        );
    }
    out
}
