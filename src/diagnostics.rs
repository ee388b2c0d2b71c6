//! Diagnostics through the `tracing` facade, if the feature is on; otherwise nothing, not even the arguments.

/// `diagnose!(level, fields..., "message")`, as the macro of that level in `tracing`.
macro_rules! diagnose {
    ($level:ident, $($rest:tt)+) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "suffuse", $($rest)+);
    }};
}
