//! A client that wants to hurt: any bytes, cut anywhere. For the fuzzer (native/fuzz).
#![allow(clippy::panic)] // a finding is told by a panic

use super::codec::{Decoder, Event, MAX_PAYLOAD_BYTES};
use super::handshake::{Handshake, Next, Offer};
use super::transmission::{plan, put_refusal};

/// Byte 0: how the stream is cut; byte 1: what the export is. The rest is what the client sends.
pub fn nbd_client(data: &[u8]) {
    let Some((&[cut, kind], stream)) = data.split_first_chunk::<2>() else { return };
    let offer = Offer {
        name: "disk".to_owned(),
        size_bytes: 1 << (u32::from(kind) % 48 + 9),
        read_only: kind & 64 != 0,
        min_block_bytes: if kind & 128 == 0 { 512 } else { 4096 },
        preferred_block_bytes: 4096,
    };
    let (mut decoder, mut handshake, mut session) = (Decoder::new(), Handshake::default(), None);
    let mut out = Vec::new();
    for piece in stream.chunks(usize::from(cut).max(1)) {
        let mut input = piece;
        while !input.is_empty() {
            let Ok((taken, event)) = decoder.decode(input) else { return };
            assert!(taken <= input.len() && (taken > 0 || event.is_some()), "every step takes or tells something");
            input = &input[taken..];
            let next = match event {
                None => break,
                Some(Event::ClientFlags(flags)) => handshake.client_flags(flags).map(|()| Next::Haggle),
                Some(Event::Option { option, data }) => handshake.option(option, data, &offer, &mut out),
                Some(Event::OptionTooLong { option }) => handshake.option_too_long(option, &mut out),
                Some(Event::Request(request)) => {
                    let Some(session) = session else { panic!("a request before the handshake was over") };
                    match plan(&request, &offer, session) {
                        Ok(plan) => {
                            let payload = plan.payload_bytes(&request);
                            assert!(payload <= MAX_PAYLOAD_BYTES);
                            assert!(
                                request
                                    .offset
                                    .checked_add(request.len.into())
                                    .is_some_and(|end| end <= offer.size_bytes)
                                    || request.len == 0
                                    || payload == 0
                            );
                        }
                        Err(refusal) => put_refusal(&mut out, session, request.cookie, &refusal),
                    }
                    Ok(Next::Haggle)
                }
                Some(Event::Payload(bytes)) => {
                    assert!(!bytes.is_empty());
                    Ok(Next::Haggle)
                }
            };
            match next {
                Ok(Next::Haggle) => {}
                Ok(Next::Transmit(agreed)) => {
                    session = Some(agreed);
                    decoder.enter_transmission();
                }
                Ok(_) | Err(_) => return,
            }
        }
        // What is answered is bounded by what was asked: a reader that does not read must not cost memory without end.
        assert!(out.len() <= (1 << 20) + stream.len() * 64, "{} bytes of answers", out.len());
    }
}
