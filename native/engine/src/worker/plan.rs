//! The part of a move's plan the engine reads. The whole plan is the host's JSON and travels unchanged (src/model/move.ts).

use std::path::PathBuf;

use serde::Deserialize;

use crate::disk::{DiskError, ErrorKind};
use crate::file::Trust;
use crate::formats::Format;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub schema: u32,
    pub move_id: String,
    /// How many moves the VM's storage will have made with this one; stands in the receipt.
    #[serde(default)]
    pub generation: u32,
    /// The user whose machine it is, who is trusted with the folders of its files beside root and the user of this process.
    #[serde(default)]
    pub owner: Option<u32>,
    pub disks: Vec<PlannedDisk>,
}

impl Plan {
    pub fn trust(&self) -> Trust {
        Trust::of_owner(self.owner)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct PlannedDisk {
    /// The worker's number of the disk.
    pub disk: u32,
    pub source: PathBuf,
    pub target: PathBuf,
    pub format: PlannedFormat,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedFormat {
    Raw,
    Vhdx,
}

impl From<PlannedFormat> for Format {
    fn from(format: PlannedFormat) -> Self {
        match format {
            PlannedFormat::Raw => Format::Raw,
            PlannedFormat::Vhdx => Format::Vhdx,
        }
    }
}

/// A plan this build can carry out: schema 1, at least one disk, each disk once.
pub fn parse_plan(json: &[u8]) -> Result<Plan, DiskError> {
    let invalid =
        |why: String| DiskError::new(ErrorKind::InvalidArgument, format!("the plan of the move cannot be used: {why}"));
    let plan: Plan = serde_json::from_slice(json).map_err(|e| invalid(e.to_string()))?;
    if plan.schema != 1 {
        return Err(invalid(format!("schema {} is not known, only 1", plan.schema)));
    }
    if plan.disks.is_empty() || plan.disks.len() > DISKS_MAX {
        return Err(invalid(format!("it names {} disks; 1 to {DISKS_MAX} can be moved", plan.disks.len())));
    }
    for (n, disk) in plan.disks.iter().enumerate() {
        if plan.disks[..n].iter().any(|other| other.disk == disk.disk || other.target == disk.target) {
            return Err(invalid(format!("disk {} or its target is named twice", disk.disk)));
        }
    }
    Ok(plan)
}

/// Disks of one move: the number of a member has eight bits in an operation's tag.
const DISKS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::parse_plan;

    #[test]
    fn a_plan_with_a_disk_named_twice_is_refused() {
        let json = br#"{"schema":1,"moveId":"m","disks":[
            {"disk":0,"source":"/a","target":"/b","format":"raw"},{"disk":0,"source":"/a","target":"/c","format":"raw"}]}"#;
        assert!(parse_plan(json).is_err());
    }

    #[test]
    fn what_the_engine_does_not_read_is_no_error() {
        let json = br#"{"schema":1,"moveId":"m","vmName":"web01","disks":[{"disk":1,"source":"/a","target":"/b","format":"vhdx"}]}"#;
        assert_eq!(parse_plan(json).unwrap().disks[0].disk, 1);
    }
}
