//! The colours of a picture, on light and on dark paper.

/// The style of every class.
pub const STYLE: &str = "
text{font-family:system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:22px;font-weight:600}
.dim{font-size:13px;fill:#59636e}
.rank{font-size:14px;font-weight:600}
.step{font-size:13px;font-weight:600;fill:#59636e}
.label{font-size:13px;font-weight:600}
.small{font-size:11px;fill:#59636e}
.bytes{font-size:10.5px;paint-order:stroke;stroke:#ffffff;stroke-width:4px;stroke-linejoin:round}
.paper{fill:#ffffff}
.card{fill:#f6f8fa;stroke:#d1d9e0}
.idle{fill:none;stroke:#d1d9e0;stroke-dasharray:4 4}
.scores{fill:#ffffff}
.outline{fill:none;stroke:#818b98;stroke-width:0.8}
.rule{stroke:#d1d9e0}
.wire{fill:none;stroke-width:1.6}
.result{stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}
.dim,.step,.small{fill:#9198a1}
.bytes{stroke:#0d1117}
.paper{fill:#0d1117}
.card{fill:#151b23;stroke:#3d444d}
.idle{stroke:#3d444d}
.scores{fill:#0d1117}
.rule{stroke:#3d444d}
}
";

/// Colours that are told from one another, and from paper of both kinds.
const COLOURS: [&str; 8] =
    ["#3f7fd0", "#e0662f", "#2aa07f", "#b565c4", "#c9962a", "#d9556f", "#7a74e0", "#6c9a2e"];

/// The colour of a rank's tokens.
pub fn colour(rank: usize) -> &'static str {
    COLOURS[rank % COLOURS.len()]
}
