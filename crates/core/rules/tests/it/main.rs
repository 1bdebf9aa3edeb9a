//! The compiler against the reference verdict, against itself from scratch, and against tables written by hand.

mod golden;
mod history;
mod interpreter;
mod merging;
mod verdicts;
mod walls;
mod world;
