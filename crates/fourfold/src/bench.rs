//! `fourfold bench`: what a server delivers, how soon, and what that costs it.
//!
//! - [`args`], [`plan`]: what is asked for; [`target`]: of whom
//! - [`readers`] (each a [`reader`]) and [`writers`] (each a [`writer`], at the times of its [`schedule`]): one thread each
//! - [`record`]: what is appended, found again in what [`framing`] and [`head`] leave of the bytes; [`profile`]: what is said
//! - [`account`], [`tally`]: lost, doubled, out of order, and how late; [`probe`]: what it cost
//! - [`run`]: all that, in order; [`outcome`], [`report`], [`table`]: what was found

mod account;
mod args;
mod framing;
mod head;
mod outcome;
mod plan;
mod probe;
mod profile;
mod reader;
mod readers;
mod record;
mod report;
mod run;
mod schedule;
mod socket;
mod table;
mod tally;
mod target;
mod writer;
mod writers;

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

pub(crate) use args::BenchArgs;
use plan::{Plan, PlanError};
use report::Report;
use run::Run;
pub(crate) use run::RunError;
use table::Table;
use target::{Target, TargetError};

/// Why there is no clean result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// What was typed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Whom to measure.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It was begun and did not come to its end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The result cannot be written.
    #[error("the result cannot be written to {path}: {why}")]
    Write {
        /// Where.
        path: String,
        /// Why not.
        why: io::Error,
    },
    /// The server did not do what it promised; the figures are printed all the same.
    #[error("the run was not clean: {0}")]
    Fault(String),
}

/// Runs the command.
pub(crate) fn bench(args: &BenchArgs) -> Result<(), BenchError> {
    let plan = Plan::new(args)?;
    let target = Target::find(args, &plan)?;
    let report = Run::new(plan, target)?.run()?;
    print(&report, args.json.as_deref())?;
    match report.fault() {
        Some(fault) => Err(BenchError::Fault(fault)),
        None => Ok(()),
    }
}

fn print(report: &Report, json: Option<&Path>) -> Result<(), BenchError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |why| BenchError::Write { path, why }
    };
    let to_stdout = json == Some(Path::new("-"));
    if let Some(path) = json {
        let mut text = serde_json::to_string(report).expect("a report has only strings for keys");
        text.push('\n');
        let written = if to_stdout { io::stdout().write_all(text.as_bytes()) } else { fs::write(path, text) };
        written.map_err(failed(path))?;
    }
    if !to_stdout {
        write!(io::stdout(), "{}", Table(report)).map_err(failed(Path::new("standard output")))?;
    }
    Ok(())
}
