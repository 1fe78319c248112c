//! How often what has happened.

use crate::soak::faults::Fault;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Default)]
pub struct Tally {
    faults: BTreeMap<Fault, (u32, u32)>,
    ends: BTreeMap<Option<i32>, u32>,
    pub rounds: u32,
    pub runs: u32,
}

impl Tally {
    pub fn happened(&mut self, fault: Fault, hit: bool) {
        let (done, hits) = self.faults.entry(fault).or_default();
        (*done, *hits) = (*done + 1, *hits + u32::from(hit));
    }

    pub fn ended(&mut self, code: Option<i32>) {
        self.runs += 1;
        *self.ends.entry(code).or_default() += 1;
    }

    pub fn hits(&self) -> u32 {
        self.faults.values().map(|(_, hits)| hits).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rounds, {} runs of the program", self.rounds, self.runs)?;
        writeln!(f, "| fault | done | hit |\n|---|---|---|")?;
        for fault in Fault::ALL {
            let (done, hits) = self.faults.get(&fault).copied().unwrap_or_default();
            writeln!(f, "| {} | {done} | {hits} |", fault.words())?;
        }
        for (code, runs) in &self.ends {
            match code {
                Some(code) => writeln!(f, "{runs} runs ended with exit code {code}")?,
                None => writeln!(f, "{runs} runs were killed")?,
            }
        }
        Ok(())
    }
}
