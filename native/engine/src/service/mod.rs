//! The reactor thread of one worker: owns the disks, their exports and the move, and gives each completion to its owner.
