//! A client that sends exactly what a test says, legal or not, and reads replies with its own reading of the protocol.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;
pub const FAST_ZERO: u16 = 16;

#[derive(Debug, PartialEq, Eq)]
pub struct OptionReply {
    pub option: u32,
    pub kind: u32,
    pub data: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Simple { error: u32, cookie: u64 },
    Chunk { done: bool, kind: u16, cookie: u64, payload: Vec<u8> },
}

pub struct Client {
    pub stream: UnixStream,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self { stream };
        assert_eq!(client.take(18), *b"NBDMAGICIHAVEOPT\0\x03");
        client
    }

    /// Connects and negotiates with NBD_OPT_GO, block sizes too.
    pub fn open(socket: &Path, structured: bool) -> Self {
        Self::open_with(socket, structured, &[3])
    }

    /// The same without a word of block sizes.
    pub fn open_bytewise(socket: &Path, structured: bool) -> Self {
        Self::open_with(socket, structured, &[])
    }

    fn open_with(socket: &Path, structured: bool, wanted: &[u16]) -> Self {
        let mut client = Self::connect(socket);
        client.send(&3u32.to_be_bytes());
        if structured {
            client.option(8, &[]);
            assert_eq!(client.option_replies(8), [1]);
            client.option(10, &meta_context("disk0", &["base:allocation"]));
            assert_eq!(client.option_replies(10), [4, 1]);
        }
        client.option(7, &info_of("disk0", wanted));
        assert_eq!(client.option_replies(7), [3, 3, 1]);
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    /// True once the server has closed its side; what it sends before is dropped.
    pub fn is_closed_by_server(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
                Err(_) => return false,
            }
        }
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend(option.to_be_bytes());
        message.extend((data.len() as u32).to_be_bytes());
        message.extend(data);
        self.send(&message);
    }

    pub fn option_reply(&mut self) -> OptionReply {
        assert_eq!(self.u64(), 0x3e889045565a9);
        let (option, kind, len) = (self.u32(), self.u32(), self.u32());
        OptionReply { option, kind, data: self.take(len as usize) }
    }

    /// The kinds of all replies to an option, the final one included.
    pub fn option_replies(&mut self, option: u32) -> Vec<u32> {
        let mut kinds = Vec::new();
        loop {
            let reply = self.option_reply();
            assert_eq!(reply.option, option);
            kinds.push(reply.kind);
            if reply.kind == 1 || reply.kind >> 31 == 1 {
                return kinds;
            }
        }
    }

    pub fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, len: u32) {
        self.send(&request(flags, command, cookie, offset, len));
    }

    pub fn write(&mut self, flags: u16, cookie: u64, offset: u64, data: &[u8]) {
        self.request(flags, WRITE, cookie, offset, data.len() as u32);
        self.send(data);
    }

    pub fn reply(&mut self) -> Reply {
        match self.u32() {
            0x6744_6698 => Reply::Simple { error: self.u32(), cookie: self.u64() },
            0x668e_33ef => {
                let (flags, kind, cookie, len) = (self.u16(), self.u16(), self.u64(), self.u32());
                Reply::Chunk { done: flags & 1 == 1, kind, cookie, payload: self.take(len as usize) }
            }
            magic => panic!("{magic:#x} is no reply"),
        }
    }

    /// The error of a request that was answered in one message, 0 for success.
    pub fn error_of(&mut self, cookie: u64) -> u32 {
        match self.reply() {
            Reply::Simple { error, cookie: of } if of == cookie => error,
            Reply::Chunk { done: true, kind: 0x8001, cookie: of, payload } if of == cookie => {
                let error = u32::from_be_bytes(payload[..4].try_into().unwrap());
                assert_ne!(error, 0);
                error
            }
            reply => panic!("{reply:?} does not answer {cookie}"),
        }
    }

    /// The content a structured READ was answered with, and the (offset, length, is hole) of its chunks.
    pub fn content_of(&mut self, cookie: u64, offset: u64, len: u32) -> (Vec<u8>, Vec<(u64, u32, bool)>) {
        let mut content = vec![0xEE; len as usize];
        let mut chunks = Vec::new();
        loop {
            let Reply::Chunk { done, kind, cookie: of, payload } = self.reply() else { panic!("not structured") };
            assert_eq!(of, cookie);
            let at = u64::from_be_bytes(payload[..8].try_into().unwrap());
            let start = (at - offset) as usize;
            match kind {
                1 => {
                    content[start..start + payload.len() - 8].copy_from_slice(&payload[8..]);
                    chunks.push((at, payload.len() as u32 - 8, false));
                }
                2 => {
                    let len = u32::from_be_bytes(payload[8..].try_into().unwrap());
                    content[start..start + len as usize].fill(0);
                    chunks.push((at, len, true));
                }
                _ => panic!("chunk of kind {kind}: {payload:?}"),
            }
            if done {
                assert_eq!(chunks.iter().map(|chunk| chunk.1).sum::<u32>(), len);
                return (content, chunks);
            }
        }
    }

    /// The (length, flags) descriptors a BLOCK_STATUS was answered with.
    pub fn status_of(&mut self, cookie: u64) -> Vec<(u32, u32)> {
        let Reply::Chunk { done: true, kind: 5, cookie: of, payload } = self.reply() else { panic!("no status") };
        assert_eq!((of, &payload[..4]), (cookie, &1u32.to_be_bytes()[..]));
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        payload[4..].chunks(8).map(|pair| (number(&pair[..4]), number(&pair[4..]))).collect()
    }
}

pub fn request(flags: u16, command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut message = 0x2560_9513u32.to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend(command.to_be_bytes());
    message.extend(cookie.to_be_bytes());
    message.extend(offset.to_be_bytes());
    message.extend(len.to_be_bytes());
    message
}

/// Data of NBD_OPT_GO and NBD_OPT_INFO without information requests.
pub fn info(name: &str) -> Vec<u8> {
    info_of(name, &[])
}

/// The same with information requests: NBD_INFO_BLOCK_SIZE is 3.
pub fn info_of(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend((wanted.len() as u16).to_be_bytes());
    wanted.iter().for_each(|one| data.extend(one.to_be_bytes()));
    data
}

pub fn meta_context(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend((queries.len() as u32).to_be_bytes());
    for query in queries {
        data.extend((query.len() as u32).to_be_bytes());
        data.extend(query.as_bytes());
    }
    data
}
