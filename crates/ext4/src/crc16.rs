//! The checksum of group descriptors: CRC-16 with the polynomial 0x8005, bits reflected.
//!
//! Source: Linux `lib/crc16.c`.

pub(crate) const START: u16 = 0xffff;

/// Goes on with a checksum.
pub(crate) fn update(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogues() {
        // CRC-16/MODBUS, which has the same polynomial and start.
        assert_eq!(update(START, b"123456789"), 0x4b37);
    }
}
