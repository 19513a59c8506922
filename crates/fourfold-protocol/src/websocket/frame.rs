//! The frame: its header in both directions, and the mask.
//!
//! ```text
//!  byte 0            byte 1           then               then, from clients
//! ┌───┬───┬────────┬──────┬────────┬──────────────────┬──────────┐
//! │FIN│RSV│ opcode │ MASK │ length │ 0, 2 or 8 bytes  │ mask, 4  │ payload
//! │ 1 │ 3 │   4    │  1   │   7    │ if 126 or 127    │          │
//! └───┴───┴────────┴──────┴────────┴──────────────────┴──────────┘
//! ```
//!
//! Spec: RFC 6455 "Base Framing Protocol".

use super::broken::Broken;

/// The longest payload of a control frame. Spec: RFC 6455 "Control Frames".
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest header of a client: 2 bytes, 8 of length, 4 of mask.
pub(super) const CLIENT_HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASK: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message begun before.
    Continuation = 0,
    /// A text message, or its first piece.
    Text = 1,
    /// A binary message, or its first piece.
    Binary = 2,
    /// The last frame of a side.
    Close = 8,
    /// To be answered by a pong with the same payload.
    Ping = 9,
    /// The answer to a ping, or unasked.
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| *opcode as u8 == bits)
    }

    /// Whether it may stand between the pieces of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The header of a client's frame, complete and in itself valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) rsv1: bool,
    pub(super) opcode: Opcode,
    pub(super) payload_bytes: u64,
    pub(super) mask: [u8; 4],
}

impl Header {
    /// How long the header is that begins with `head`, as far as that is known; at least 2.
    pub(super) fn bytes(head: &[u8]) -> usize {
        match head.get(1).map(|byte| byte & !MASK) {
            None => 2,
            Some(126) => 2 + 2 + 4,
            Some(127) => CLIENT_HEADER_BYTES_MAX,
            Some(_) => 2 + 4,
        }
    }

    /// What can be told from the first two bytes alone, so that a broken frame is refused as soon as it begins.
    pub(super) fn start(head: [u8; 2]) -> Result<(Opcode, bool, bool), Broken> {
        let (fin, rsv1) = (head[0] & FIN != 0, head[0] & RSV1 != 0);
        if head[0] & RSV2_AND_3 != 0 {
            return Err(Broken::ReservedBits);
        }
        let opcode = Opcode::from_bits(head[0] & 0x0f).ok_or(Broken::ReservedOpcode)?;
        if head[1] & MASK == 0 {
            return Err(Broken::Unmasked);
        }
        if opcode.is_control() {
            if rsv1 {
                return Err(Broken::ReservedBits);
            }
            if !fin {
                return Err(Broken::FragmentedControl);
            }
            if usize::from(head[1] & !MASK) > CONTROL_BYTES_MAX {
                return Err(Broken::LongControl);
            }
        }
        Ok((opcode, fin, rsv1))
    }

    /// Reads a whole header: as many bytes as [`bytes`](Self::bytes) says.
    pub(super) fn parse(head: &[u8]) -> Result<Self, Broken> {
        let (length, mask) = head[1..].split_last_chunk::<4>().expect("a client's header ends with its mask");
        let (opcode, fin, rsv1) = Self::start([head[0], head[1]])?;
        let payload_bytes = match *length {
            [short] => u64::from(short & !MASK),
            [_, high, low] => u64::from(u16::from_be_bytes([high, low])),
            [_, ref long @ ..] => u64::from_be_bytes(long.try_into().expect("a length has 1, 2 or 8 bytes")),
            [] => unreachable!("a header has at least 2 bytes before its mask"),
        };
        let shortest = match length.len() {
            1 => 0..=125,
            3 => 126..=0xffff,
            _ => 0x1_0000..=u64::MAX >> 1,
        };
        if !shortest.contains(&payload_bytes) {
            return Err(Broken::InvalidLength);
        }
        Ok(Self { fin, rsv1, opcode, payload_bytes, mask: *mask })
    }
}

/// A whole, final frame of the server: not masked.
pub(super) fn encode(opcode: Opcode, deflated: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(server_header_bytes(payload.len()) + payload.len());
    frame.push(FIN | if deflated { RSV1 } else { 0 } | opcode as u8);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Where the payload begins in a frame of the server.
pub(super) const fn server_header_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Appends a piece of payload, unmasked; the piece begins `at` bytes into the payload.
pub(super) fn unmask_onto(data: &mut Vec<u8>, piece: &[u8], mut mask: [u8; 4], at: u64) {
    mask.rotate_left((at % 4) as usize);
    let start = data.len();
    data.extend_from_slice(piece);
    let word_mask = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = data[start..].chunks_exact_mut(8);
    for word in &mut words {
        let unmasked = u64::from_ne_bytes((&*word).try_into().expect("chunks of 8 bytes")) ^ word_mask;
        word.copy_from_slice(&unmasked.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_payload_unmasked_in_pieces_is_the_payload(
            payload in proptest::collection::vec(any::<u8>(), 0..100), cut in 0_usize..100, mask: [u8; 4],
        ) {
            let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let cut = cut.min(payload.len());
            let mut data = Vec::new();
            unmask_onto(&mut data, &masked[..cut], mask, 0);
            unmask_onto(&mut data, &masked[cut..], mask, cut as u64);
            prop_assert_eq!(data, payload);
        }
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        for (payload_bytes, header) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65535, &[0x82, 126, 0xff, 0xff]),
            (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = encode(Opcode::Binary, false, &vec![7; payload_bytes]);
            assert_eq!(&frame[..server_header_bytes(payload_bytes)], header);
            assert_eq!(frame.len(), frame.capacity(), "a frame that thousands share has no slack");
        }
    }
}
