//! The byte streams of a connection without its I/O: bytes in, events out; replies are appended to a buffer.
//!
//! ```text
//!   ClientFlags --> OptionHeader <--> OptionData
//!                        |    ^
//!                        v    | (skipped, too long to keep)
//!                        OptionSkip
//!        enter_transmission()
//!                        v
//!                     Request <--> Payload          any phase --violation--> the connection is to be closed
//! ```
//! The decoder keeps at most one option or one request header. It never fails on a cut: what is incomplete is continued
//! by the next bytes, wherever the stream was divided.

use super::wire::*;

/// The largest payload of a READ or WRITE, advertised as the maximum block size: 32 MiB, what QEMU and libnbd use.
pub const MAX_PAYLOAD_BYTES: u32 = 32 << 20;
/// Option data kept for parsing: an export name (at most 4096) and a dozen metadata queries of that size fit.
pub const MAX_OPTION_BYTES: u32 = 64 << 10;
/// Option data that is at least read and thrown away, so that the client gets an answer instead of a closed connection.
pub const MAX_SKIPPED_OPTION_BYTES: u32 = 1 << 20;

/// Why a connection has to be closed: its stream can no longer be understood, or it asks for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the client sent unknown handshake flags")]
    ClientFlags,
    #[error("an option does not start with the magic number")]
    OptionMagic,
    #[error("option data is longer than any option needs")]
    OptionLength,
    #[error("the client went on negotiating without end")]
    TooManyOptions,
    #[error("an old client named an export that is not served here, or sent an option it may not use")]
    NoSuchExport,
    #[error("a request does not start with the magic number")]
    RequestMagic,
    #[error("a write is longer than the advertised maximum")]
    PayloadLength,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    ClientFlags(u32),
    Option {
        option: u32,
        data: &'a [u8],
    },
    /// An option longer than [`MAX_OPTION_BYTES`]; its data is gone.
    OptionTooLong {
        option: u32,
    },
    /// If it is a WRITE, `len` bytes of payload follow.
    Request(RequestHeader),
    /// The next piece of the payload; [`Decoder::payload_left`] says how much is still to come.
    Payload(&'a [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    ClientFlags,
    OptionHeader,
    OptionData { option: u32, len: u32 },
    OptionSkip { option: u32, left: u32 },
    Request,
    Payload { left: u32 },
}

#[derive(Debug)]
pub struct Decoder {
    phase: Phase,
    /// The fixed-size message being assembled.
    header: [u8; REQUEST_BYTES],
    header_filled: usize,
    option_data: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    pub fn new() -> Self {
        Self { phase: Phase::ClientFlags, header: [0; REQUEST_BYTES], header_filled: 0, option_data: Vec::new() }
    }

    /// The handshake is over: what follows are requests.
    pub fn enter_transmission(&mut self) {
        self.phase = Phase::Request;
        self.header_filled = 0;
        self.option_data = Vec::new();
    }

    /// Payload bytes that still belong to the WRITE announced last.
    pub fn payload_left(&self) -> u32 {
        match self.phase {
            Phase::Payload { left } => left,
            _ => 0,
        }
    }

    /// `count` payload bytes went past the decoder, straight into their buffer.
    pub fn payload_received(&mut self, count: u32) {
        if let Phase::Payload { left } = self.phase {
            let left = left.saturating_sub(count);
            self.phase = if left == 0 { Phase::Request } else { Phase::Payload { left } };
        }
    }

    /// Reads `input` up to the next event: how many bytes that took, and the event. `None`: all of `input` was taken
    /// and more is needed.
    pub fn decode<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Violation> {
        let mut rest = input;
        let event = self.take_event(&mut rest)?;
        Ok((input.len() - rest.len(), event))
    }

    fn take_event<'a>(&'a mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Violation> {
        loop {
            match self.phase {
                Phase::ClientFlags => {
                    let Some(flags) = self.assemble::<CLIENT_FLAGS_BYTES>(input) else { return Ok(None) };
                    self.phase = Phase::OptionHeader;
                    return Ok(Some(Event::ClientFlags(u32::from_be_bytes(flags))));
                }
                Phase::OptionHeader => {
                    let Some(header) = self.assemble::<OPTION_HEADER_BYTES>(input) else { return Ok(None) };
                    self.phase = Self::option_phase(&header)?;
                    self.option_data.clear();
                }
                Phase::OptionData { option, len } => {
                    let missing = len as usize - self.option_data.len();
                    let (taken, rest) = input.split_at(missing.min(input.len()));
                    self.option_data.extend_from_slice(taken);
                    *input = rest;
                    if taken.len() < missing {
                        return Ok(None);
                    }
                    self.phase = Phase::OptionHeader;
                    return Ok(Some(Event::Option { option, data: &self.option_data }));
                }
                Phase::OptionSkip { option, left } => {
                    let taken = input.len().min(left as usize);
                    *input = &input[taken..];
                    let left = left - taken as u32;
                    if left > 0 {
                        self.phase = Phase::OptionSkip { option, left };
                        return Ok(None);
                    }
                    self.phase = Phase::OptionHeader;
                    return Ok(Some(Event::OptionTooLong { option }));
                }
                Phase::Request => {
                    let Some(header) = self.assemble::<REQUEST_BYTES>(input) else { return Ok(None) };
                    let request = RequestHeader::parse(&header).ok_or(Violation::RequestMagic)?;
                    if request.command == CMD_WRITE && request.len > MAX_PAYLOAD_BYTES {
                        return Err(Violation::PayloadLength);
                    }
                    if request.command == CMD_WRITE && request.len > 0 {
                        self.phase = Phase::Payload { left: request.len };
                    }
                    return Ok(Some(Event::Request(request)));
                }
                Phase::Payload { left } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let (taken, rest) = input.split_at(input.len().min(left as usize));
                    *input = rest;
                    self.payload_received(taken.len() as u32);
                    return Ok(Some(Event::Payload(taken)));
                }
            }
        }
    }

    fn option_phase(header: &[u8; OPTION_HEADER_BYTES]) -> Result<Phase, Violation> {
        let mut fields = Fields::new(header);
        let (Some(magic), Some(option), Some(len)) = (fields.u64(), fields.u32(), fields.u32()) else {
            return Err(Violation::OptionMagic);
        };
        if magic != OPTION_MAGIC {
            return Err(Violation::OptionMagic);
        }
        if len <= MAX_OPTION_BYTES {
            Ok(Phase::OptionData { option, len })
        } else if len <= MAX_SKIPPED_OPTION_BYTES {
            Ok(Phase::OptionSkip { option, left: len })
        } else {
            Err(Violation::OptionLength)
        }
    }

    /// Collects a message of `N` bytes; `None` (and `input` empty) until it is whole.
    fn assemble<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let taken = input.len().min(N - self.header_filled);
        self.header[self.header_filled..self.header_filled + taken].copy_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.header_filled += taken;
        if self.header_filled < N {
            return None;
        }
        self.header_filled = 0;
        self.header.first_chunk::<N>().copied()
    }
}

/// The server's first message, "Newstyle negotiation".
pub fn put_greeting(out: &mut Vec<u8>) {
    out.extend_from_slice(&NBD_MAGIC.to_be_bytes());
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    out.extend_from_slice(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
}

/// The answer to an option. `parts` are the pieces of its data, one after the other.
pub fn put_option_reply(out: &mut Vec<u8>, option: u32, reply: u32, parts: &[&[u8]]) {
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&reply.to_be_bytes());
    out.extend_from_slice(&(parts.iter().map(|part| part.len()).sum::<usize>() as u32).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// `error` is one of the protocol's error values, 0 for success.
pub fn simple_reply(error: u32, cookie: u64) -> [u8; SIMPLE_REPLY_BYTES] {
    let mut out = [0; SIMPLE_REPLY_BYTES];
    out[0..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&error.to_be_bytes());
    out[8..16].copy_from_slice(&cookie.to_be_bytes());
    out
}

fn chunk_header(done: bool, kind: u16, cookie: u64, len: u32) -> [u8; CHUNK_HEADER_BYTES] {
    let mut out = [0; CHUNK_HEADER_BYTES];
    out[0..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    out[4..6].copy_from_slice(&(if done { REPLY_FLAG_DONE } else { 0 }).to_be_bytes());
    out[6..8].copy_from_slice(&kind.to_be_bytes());
    out[8..16].copy_from_slice(&cookie.to_be_bytes());
    out[16..20].copy_from_slice(&len.to_be_bytes());
    out
}

/// What stands in front of `len` bytes of data of an OFFSET_DATA chunk.
pub fn data_header(done: bool, cookie: u64, offset: u64, len: u32) -> [u8; DATA_HEADER_BYTES] {
    let mut out = [0; DATA_HEADER_BYTES];
    out[..CHUNK_HEADER_BYTES].copy_from_slice(&chunk_header(done, REPLY_OFFSET_DATA, cookie, len + 8));
    out[CHUNK_HEADER_BYTES..].copy_from_slice(&offset.to_be_bytes());
    out
}

pub fn hole_chunk(done: bool, cookie: u64, offset: u64, len: u32) -> [u8; HOLE_CHUNK_BYTES] {
    let mut out = [0; HOLE_CHUNK_BYTES];
    out[..CHUNK_HEADER_BYTES].copy_from_slice(&chunk_header(done, REPLY_OFFSET_HOLE, cookie, 12));
    out[CHUNK_HEADER_BYTES..28].copy_from_slice(&offset.to_be_bytes());
    out[28..].copy_from_slice(&len.to_be_bytes());
    out
}

/// A final ERROR chunk with a message for a human being.
pub fn put_error_chunk(out: &mut Vec<u8>, cookie: u64, error: u32, message: &str) {
    out.extend_from_slice(&chunk_header(true, REPLY_ERROR, cookie, 6 + message.len() as u32));
    out.extend_from_slice(&error.to_be_bytes());
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// A final BLOCK_STATUS chunk: (length, flags) descriptors from the request's offset on.
pub fn put_block_status(
    out: &mut Vec<u8>,
    cookie: u64,
    context: u32,
    descriptors: impl ExactSizeIterator<Item = (u32, u32)>,
) {
    out.extend_from_slice(&chunk_header(true, REPLY_BLOCK_STATUS, cookie, 4 + 8 * descriptors.len() as u32));
    out.extend_from_slice(&context.to_be_bytes());
    for (len, flags) in descriptors {
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything a stream says, payload pieces joined; ends with the violation if there is one.
    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::new();
        let mut said: Vec<String> = Vec::new();
        let mut payload = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                let event = match decoder.decode(input) {
                    Err(violation) => {
                        said.push(violation.to_string());
                        return said;
                    }
                    Ok((taken, event)) => {
                        assert!(event.is_some() || taken == input.len(), "all is taken before more is asked for");
                        input = &input[taken..];
                        event
                    }
                };
                let event = match event {
                    None => break,
                    Some(Event::Payload(bytes)) => {
                        assert!(!bytes.is_empty());
                        payload.extend_from_slice(bytes);
                        None
                    }
                    Some(event) => Some((format!("{event:?}"), matches!(event, Event::Option { option: OPT_GO, .. }))),
                };
                if let Some((text, goes)) = event {
                    said.push(text);
                    if goes {
                        decoder.enter_transmission();
                    }
                } else if decoder.payload_left() == 0 {
                    said.push(format!("{:?}", std::mem::take(&mut payload)));
                }
            }
        }
        said
    }

    fn request(command: u16, len: u32) -> Vec<u8> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(command.to_be_bytes());
        bytes.extend([7; 16]);
        bytes.extend(len.to_be_bytes());
        bytes
    }

    fn option(option: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn session() -> Vec<u8> {
        [
            vec![0, 0, 0, 3],
            option(OPT_LIST, &[]),
            option(99, &[1; 100]),
            option(98, &vec![2; MAX_OPTION_BYTES as usize + 1]),
            option(OPT_GO, &[0; 6]),
            request(CMD_READ, 4096),
            request(CMD_WRITE, 700),
            vec![9; 700],
            request(CMD_WRITE, 0),
            request(CMD_DISC, 0),
        ]
        .concat()
    }

    #[test]
    fn a_session_is_understood() {
        let said = events(&[&session()]);
        assert_eq!(said.len(), 10, "{said:?}");
        assert_eq!(said[0], "ClientFlags(3)");
        assert_eq!(said[3], "OptionTooLong { option: 98 }");
        assert_eq!(said[7], format!("{:?}", [9; 700]));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_makes_no_difference(cuts in prop::collection::vec(0usize..67_000, 0..20)) {
            let bytes = session();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces), events(&[&bytes]));
        }

        #[test]
        fn no_bytes_upset_the_decoder(
            bytes in prop::collection::vec(any::<u8>(), 0..300), prefix in 0usize..67_000, change in any::<(u16, u8)>(),
        ) {
            let mut stream = session();
            stream.truncate(prefix);
            stream.extend(bytes);
            if let Some(byte) = stream.get_mut(usize::from(change.0)) {
                *byte = change.1;
            }
            let said = events(&[&stream]);
            let cut: Vec<_> = stream.chunks(13).collect();
            prop_assert_eq!(events(&cut), said);
        }
    }

    #[test]
    fn what_is_too_long_is_a_violation_before_it_is_received() {
        let mut long_option = option(OPT_LIST, &[]);
        long_option[12..].copy_from_slice(&(MAX_SKIPPED_OPTION_BYTES + 1).to_be_bytes());
        assert_eq!(events(&[&[0, 0, 0, 3], &long_option])[1], Violation::OptionLength.to_string());
        let go = [vec![0, 0, 0, 3], option(OPT_GO, &[])].concat();
        assert_eq!(events(&[&go, &request(CMD_WRITE, MAX_PAYLOAD_BYTES + 1)])[2], Violation::PayloadLength.to_string());
        assert_eq!(events(&[&go, &[0; 28]])[2], Violation::RequestMagic.to_string());
    }
}
