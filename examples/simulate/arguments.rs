//! Ranges of arguments.

/// A number within bounds.
pub(crate) fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("must be a number from {low} to {high}")),
    }
}

/// A number above zero.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1e6)
}

/// A number from zero on.
pub(crate) fn non_negative(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e6)
}

/// Not quite everything.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 0.9)
}

/// From nothing extra to everything three times.
pub(crate) fn redundancy(text: &str) -> Result<f64, String> {
    number(text, 1.0, 3.0)
}
