//! Every way in which findings and timelines are shown.

pub mod github;
pub mod json;
pub mod sarif;
pub mod svg;
pub mod text;
