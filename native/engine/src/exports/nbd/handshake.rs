//! The handshake phase: fixed newstyle option haggling, as a state machine over the codec's events.
//!
//! ```text
//!   greeting --> client flags --> options ... --GO / EXPORT_NAME--> transmission
//!                                        \----ABORT---------------> hang up (after the answer)
//! ```
//! One export, known by its name and by the empty (default) name. No TLS, no extended headers: REP_ERR_UNSUP.

use super::codec::{MAX_PAYLOAD_BYTES, Violation, put_option_reply};
use super::wire::*;

/// Options of one handshake. Clients need fewer than ten; the limit ends one that never gets to the point.
pub const MAX_OPTIONS: u32 = 128;
/// "a string ... MUST be no longer than 4096 bytes".
pub const MAX_STRING_BYTES: usize = 4096;
/// The id of base:allocation in block status replies; any number would do.
pub const ALLOCATION_CONTEXT: u32 = 1;
/// "124 bytes, zeroes (reserved)" after EXPORT_NAME's answer, unless the client asked to leave them out.
const RESERVED_ZEROES: usize = 124;

/// What is on offer: the export as clients see it.
#[derive(Clone, Debug)]
pub struct Offer {
    pub name: String,
    pub size_bytes: u64,
    pub read_only: bool,
    /// Smallest unit of a request, and the multiple every offset and length has to be.
    pub min_block_bytes: u32,
    pub preferred_block_bytes: u32,
}

impl Offer {
    fn transmission_flags(&self, structured: bool) -> u16 {
        let mut flags = HAS_FLAGS | SEND_FLUSH | SEND_CACHE;
        if structured {
            flags |= SEND_DF;
        }
        if self.read_only {
            flags | READ_ONLY
        } else {
            flags | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO
        }
    }

    fn is_named(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }
}

/// What both sides agreed upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The client has not asked for block sizes: it may ask for any byte ("Block size constraints": then the minimum is 1).
    pub any_size: bool,
    pub structured: bool,
    pub block_status: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Haggle,
    Transmit(Session),
    /// Close once what was answered has been sent.
    HangUp,
}

#[derive(Debug, Default)]
pub struct Handshake {
    fixed: bool,
    no_zeroes: bool,
    structured: bool,
    /// The export name base:allocation was selected for, as the client wrote it: it counts only for that name.
    context_for: Option<Vec<u8>>,
    options: u32,
}

impl Handshake {
    pub fn client_flags(&mut self, flags: u32) -> Result<(), Violation> {
        if flags & !(CLIENT_FIXED_NEWSTYLE | CLIENT_NO_ZEROES) != 0 {
            return Err(Violation::ClientFlags);
        }
        self.fixed = flags & CLIENT_FIXED_NEWSTYLE != 0;
        self.no_zeroes = flags & CLIENT_NO_ZEROES != 0;
        Ok(())
    }

    /// An option too long to be kept.
    pub fn option_too_long(&mut self, option: u32, out: &mut Vec<u8>) -> Result<Next, Violation> {
        self.count(option)?;
        if option == OPT_EXPORT_NAME {
            return Err(Violation::NoSuchExport);
        }
        Ok(refuse(out, option, REP_ERR_TOO_BIG, "the option's data is longer than 65536 bytes"))
    }

    pub fn option(&mut self, option: u32, data: &[u8], offer: &Offer, out: &mut Vec<u8>) -> Result<Next, Violation> {
        self.count(option)?;
        match option {
            OPT_EXPORT_NAME => self.export_name(data, offer, out),
            OPT_ABORT => {
                put_option_reply(out, option, REP_ACK, &[]);
                Ok(Next::HangUp)
            }
            OPT_LIST => Ok(list(data, offer, out)),
            OPT_INFO | OPT_GO => Ok(self.info(option, data, offer, out)),
            OPT_STRUCTURED_REPLY => Ok(self.structured_reply(data, out)),
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => Ok(self.meta_context(option, data, offer, out)),
            _ => Ok(refuse(out, option, REP_ERR_UNSUP, "this server does not know the option")),
        }
    }

    /// A client that did not ask for fixed newstyle may only name its export.
    fn count(&mut self, option: u32) -> Result<(), Violation> {
        self.options += 1;
        if self.options > MAX_OPTIONS {
            return Err(Violation::TooManyOptions);
        }
        if !self.fixed && option != OPT_EXPORT_NAME {
            return Err(Violation::NoSuchExport);
        }
        Ok(())
    }

    fn session(&self, name: &[u8], any_size: bool) -> Session {
        let block_status = self.structured && self.context_for.as_deref() == Some(name);
        Session { any_size, structured: self.structured, block_status }
    }

    fn export_name(&self, name: &[u8], offer: &Offer, out: &mut Vec<u8>) -> Result<Next, Violation> {
        if !offer.is_named(name) {
            return Err(Violation::NoSuchExport);
        }
        out.extend_from_slice(&offer.size_bytes.to_be_bytes());
        out.extend_from_slice(&offer.transmission_flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; RESERVED_ZEROES]);
        }
        Ok(Next::Transmit(self.session(name, true)))
    }

    fn structured_reply(&mut self, data: &[u8], out: &mut Vec<u8>) -> Next {
        if !data.is_empty() {
            return refuse(out, OPT_STRUCTURED_REPLY, REP_ERR_INVALID, "the option takes no data");
        }
        self.structured = true;
        put_option_reply(out, OPT_STRUCTURED_REPLY, REP_ACK, &[]);
        Next::Haggle
    }

    /// NBD_OPT_INFO and NBD_OPT_GO: the export's facts; GO then starts the transmission.
    fn info(&self, option: u32, data: &[u8], offer: &Offer, out: &mut Vec<u8>) -> Next {
        let Some((name, wants_name, wants_sizes)) = parse_info(data) else {
            return refuse(out, option, REP_ERR_INVALID, "the option's data is malformed");
        };
        if !offer.is_named(name) {
            return refuse(out, option, REP_ERR_UNKNOWN, "no export of that name is served here");
        }
        let flags = offer.transmission_flags(self.structured);
        let export = [&INFO_EXPORT.to_be_bytes()[..], &offer.size_bytes.to_be_bytes(), &flags.to_be_bytes()];
        put_option_reply(out, option, REP_INFO, &export);
        if wants_name {
            put_option_reply(out, option, REP_INFO, &[&INFO_NAME.to_be_bytes(), offer.name.as_bytes()]);
        }
        // Also sent unasked, as QEMU does it: then any byte may be asked for, and the preferred size is a hint.
        let min_block_bytes = if wants_sizes { offer.min_block_bytes } else { 1 };
        let sizes = [
            &INFO_BLOCK_SIZE.to_be_bytes()[..],
            &min_block_bytes.to_be_bytes(),
            &offer.preferred_block_bytes.to_be_bytes(),
            &MAX_PAYLOAD_BYTES.to_be_bytes(),
        ];
        put_option_reply(out, option, REP_INFO, &sizes);
        put_option_reply(out, option, REP_ACK, &[]);
        if option == OPT_GO { Next::Transmit(self.session(name, !wants_sizes)) } else { Next::Haggle }
    }

    fn meta_context(&mut self, option: u32, data: &[u8], offer: &Offer, out: &mut Vec<u8>) -> Next {
        let select = option == OPT_SET_META_CONTEXT;
        if select {
            // "Issuing this command replaces all previously-set metadata contexts", also when it fails.
            self.context_for = None;
        }
        if !self.structured {
            return refuse(out, option, REP_ERR_INVALID, "structured replies have to be negotiated first");
        }
        let Some((name, wants_allocation)) = parse_meta_context(data, select) else {
            return refuse(out, option, REP_ERR_INVALID, "the option's data is malformed");
        };
        if !offer.is_named(name) {
            return refuse(out, option, REP_ERR_UNKNOWN, "no export of that name is served here");
        }
        if wants_allocation {
            let id = if select { ALLOCATION_CONTEXT } else { 0 };
            put_option_reply(out, option, REP_META_CONTEXT, &[&id.to_be_bytes(), BASE_ALLOCATION.as_bytes()]);
            if select {
                self.context_for = Some(name.to_vec());
            }
        }
        put_option_reply(out, option, REP_ACK, &[]);
        Next::Haggle
    }
}

fn refuse(out: &mut Vec<u8>, option: u32, error: u32, message: &str) -> Next {
    put_option_reply(out, option, error, &[message.as_bytes()]);
    Next::Haggle
}

fn list(data: &[u8], offer: &Offer, out: &mut Vec<u8>) -> Next {
    if !data.is_empty() {
        return refuse(out, OPT_LIST, REP_ERR_INVALID, "the option takes no data");
    }
    let name = offer.name.as_bytes();
    put_option_reply(out, OPT_LIST, REP_SERVER, &[&(name.len() as u32).to_be_bytes(), name]);
    put_option_reply(out, OPT_LIST, REP_ACK, &[]);
    Next::Haggle
}

/// The export's name, and whether its canonical name and its block sizes were asked for.
fn parse_info(data: &[u8]) -> Option<(&[u8], bool, bool)> {
    let mut fields = Fields::new(data);
    let name = fields.string().filter(|name| name.len() <= MAX_STRING_BYTES)?;
    let (mut wants_name, mut wants_sizes) = (false, false);
    for _ in 0..fields.u16()? {
        let wanted = fields.u16()?;
        wants_name |= wanted == INFO_NAME;
        wants_sizes |= wanted == INFO_BLOCK_SIZE;
    }
    fields.is_empty().then_some((name, wants_name, wants_sizes))
}

/// The export's name, and whether a query matches base:allocation. A list without queries asks for everything, and one
/// for "base:" for the whole namespace; a selection names its contexts exactly.
fn parse_meta_context(data: &[u8], select: bool) -> Option<(&[u8], bool)> {
    let mut fields = Fields::new(data);
    let name = fields.string().filter(|name| name.len() <= MAX_STRING_BYTES)?;
    let count = fields.u32()?;
    let mut wanted = count == 0 && !select;
    for _ in 0..count {
        let query = fields.string().filter(|query| query.len() <= MAX_STRING_BYTES)?;
        wanted |= query == BASE_ALLOCATION.as_bytes() || (!select && query == b"base:");
    }
    fields.is_empty().then_some((name, wanted))
}
