//! Who owns a completion (the token's owner number), and what an image operation was for (its tag).

/// The token owner of a completion: kind in the top byte, number below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Wake,
    Export(u32),
    Image(u32),
}

const EXPORT: u32 = 1 << 24;
const IMAGE: u32 = 2 << 24;
const NUMBER: u32 = (1 << 24) - 1;

impl Owner {
    pub const fn to_u32(self) -> u32 {
        match self {
            Owner::Wake => 0,
            Owner::Export(n) => EXPORT | n,
            Owner::Image(n) => IMAGE | n,
        }
    }

    pub const fn from_u32(value: u32) -> Self {
        match value & !NUMBER {
            EXPORT => Owner::Export(value & NUMBER),
            IMAGE => Owner::Image(value & NUMBER),
            _ => Owner::Wake,
        }
    }
}

/// What an image operation was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// A guest request on a disk that is not moving, or a read of one that is.
    Guest = 1,
    /// The source half of a guest's write, the target half, and the two flushes, while the disk is moving.
    SourceWrite = 2,
    TargetWrite = 3,
    SourceFlush = 4,
    TargetFlush = 5,
    CopyRead = 6,
    CopyWrite = 7,
    VerifySource = 8,
    VerifyTarget = 9,
    Unknown = 0,
}

impl Purpose {
    const fn from_u8(value: u8) -> Self {
        match value {
            1 => Purpose::Guest,
            2 => Purpose::SourceWrite,
            3 => Purpose::TargetWrite,
            4 => Purpose::SourceFlush,
            5 => Purpose::TargetFlush,
            6 => Purpose::CopyRead,
            7 => Purpose::CopyWrite,
            8 => Purpose::VerifySource,
            9 => Purpose::VerifyTarget,
            _ => Purpose::Unknown,
        }
    }
}

/// Purpose, disk and slot of an image operation in one word.
pub const fn tag(purpose: Purpose, disk: u32, slot: u32) -> u64 {
    ((purpose as u64) << 56) | ((disk as u64 & 0xff_ffff) << 32) | slot as u64
}

pub const fn untag(tag: u64) -> (Purpose, u32, u32) {
    (Purpose::from_u8((tag >> 56) as u8), ((tag >> 32) & 0xff_ffff) as u32, tag as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_what_went_in() {
        let packed = tag(Purpose::VerifyTarget, 7, u32::MAX);
        assert_eq!(untag(packed), (Purpose::VerifyTarget, 7, u32::MAX));
    }

    #[test]
    fn an_owner_gives_back_what_went_in() {
        for owner in [Owner::Wake, Owner::Export(3), Owner::Image(9)] {
            assert_eq!(Owner::from_u32(owner.to_u32()), owner);
        }
    }
}
