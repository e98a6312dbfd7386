//! Packets in the pcapng format, little-endian (draft-ietf-opsawg-pcapng): a section, its interfaces, packets
//! with times in nanoseconds.

use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

/// Options, by the block they stand in.
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;

/// A frame and what is known of it.
pub(super) struct Packet<'a> {
    /// Which of the interfaces, from 0.
    pub(super) interface: u32,
    /// ns since 1970.
    pub(super) time_ns: u64,
    /// Whether it was coming in.
    pub(super) inbound: bool,
    /// Octets of the whole frame.
    pub(super) len: u32,
    /// The frame, or its beginning.
    pub(super) frame: &'a [u8],
}

/// Writes one section. Nothing is buffered: what was written whole can be read, however the writer ends.
pub(super) struct Writer<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a section with these interfaces, whose frames are cut at `snap_len` octets.
    pub(super) fn new(out: W, interfaces: &[&str], snap_len: u32) -> io::Result<Writer<W>> {
        let mut writer = Writer {
            out,
            block: Vec::new(),
        };
        writer.begin(SECTION);
        writer.word(BYTE_ORDER);
        // Version 1.0; the section's length is not known.
        writer.block.extend([1, 0, 0, 0]);
        writer.block.extend([0xff; 8]);
        writer.option(USER_APPLICATION, b"penstock");
        writer.end()?;
        for name in interfaces {
            writer.begin(INTERFACE);
            writer.block.extend(ETHERNET.to_le_bytes());
            writer.block.extend([0, 0]);
            writer.word(snap_len);
            writer.option(INTERFACE_NAME, name.as_bytes());
            // 10^-9 s.
            writer.option(TIME_RESOLUTION, &[9]);
            writer.end()?;
        }
        Ok(writer)
    }

    /// Writes a packet.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        self.begin(PACKET);
        self.word(packet.interface);
        self.word((packet.time_ns >> 32) as u32);
        self.word(packet.time_ns as u32);
        self.word(packet.frame.len() as u32);
        self.word(packet.len);
        self.block.extend(packet.frame);
        self.pad();
        let direction = if packet.inbound { 1u32 } else { 2 };
        self.option(PACKET_FLAGS, &direction.to_le_bytes());
        self.end()
    }

    /// Hands everything on.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.word(kind);
        // The length, known in the end.
        self.word(0);
    }

    fn word(&mut self, word: u32) {
        self.block.extend(word.to_le_bytes());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.block.extend(code.to_le_bytes());
        self.block.extend((value.len() as u16).to_le_bytes());
        self.block.extend(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Ends the options and the block.
    fn end(&mut self) -> io::Result<()> {
        self.word(0);
        let len = (self.block.len() + 4) as u32;
        self.word(len);
        self.block[4..8].copy_from_slice(&len.to_le_bytes());
        self.out.write_all(&self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the bytes of the specification's figures, written out by hand.
    #[test]
    fn blocks_are_as_specified() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &["in"], 2008).unwrap();
        writer
            .packet(&Packet {
                interface: 0,
                time_ns: 0x1122_3344_5566_7788,
                inbound: false,
                len: 9,
                frame: &[1, 2, 3, 4, 5],
            })
            .unwrap();
        let section: &[u8] = &[
            0x0a, 0x0d, 0x0d, 0x0a, 44, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 4, 0, 8, 0, b'p', b'e', b'n', b's', b't', b'o',
            b'c', b'k', 0, 0, 0, 0, 44, 0, 0, 0,
        ];
        let interface: &[u8] = &[
            1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0xd8, 7, 0, 0, 2, 0, 2, 0, b'i', b'n', 0, 0, 9, 0,
            1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0,
        ];
        let packet: &[u8] = &[
            6, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55, 5,
            0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 52, 0,
            0, 0,
        ];
        assert_eq!(bytes, [section, interface, packet].concat());
    }
}
