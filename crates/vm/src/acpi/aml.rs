//! The few words of AML that a list of devices needs.
//!
//! Source: ACPI 6.5, 20.2 (AML grammar), 6.4 (resource descriptors).

/// A named object.
pub(super) fn name(name: &[u8; 4], value: &[u8]) -> Vec<u8> {
    [&[0x08], name.as_slice(), value].concat()
}

/// A device with what is in it.
pub(super) fn device(name: &[u8; 4], content: &[Vec<u8>]) -> Vec<u8> {
    [&[0x5b, 0x82], sized(&[name.to_vec(), content.concat()].concat()).as_slice()].concat()
}

/// A scope that exists already, named from the root.
pub(super) fn scope(name: &[u8; 4], content: &[Vec<u8>]) -> Vec<u8> {
    let inside = [b"\\".as_slice(), name, &content.concat()].concat();
    [&[0x10], sized(&inside).as_slice()].concat()
}

/// A method without arguments.
pub(super) fn method(name: &[u8; 4], does: &[u8]) -> Vec<u8> {
    [&[0x14], sized(&[name.as_slice(), &[0], does].concat()).as_slice()].concat()
}

/// Tells a device, by its scope and name, of an event.
pub(super) fn notify(scope: &[u8; 4], device: &[u8; 4], event: u8) -> Vec<u8> {
    [b"\x86\\\x2e", scope.as_slice(), device, &number(event.into())].concat()
}

/// A list.
pub(super) fn package(elements: &[Vec<u8>]) -> Vec<u8> {
    let count = u8::try_from(elements.len()).expect("packages here have a few elements");
    [&[0x12], sized(&[vec![count], elements.concat()].concat()).as_slice()].concat()
}

/// A number.
pub(super) fn number(value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_le_bytes();
    match value {
        0 | 1 => vec![a],
        2..=0xff => vec![0x0a, a],
        0x100..=0xffff => vec![0x0b, a, b],
        0x1_0000.. => vec![0x0c, a, b, c, d],
    }
}

/// A text.
pub(super) fn text(value: &str) -> Vec<u8> {
    [&[0x0d], value.as_bytes(), &[0]].concat()
}

/// A device's name in 32 bits: three letters and four hexadecimal digits.
///
/// Source: ACPI 6.5, 19.6.36 (EISAID).
pub(super) fn eisa_id(letters: &[u8; 3], product: u16) -> Vec<u8> {
    let [a, b, c] = letters.map(|letter| u16::from(letter - b'@'));
    let [maker, product] = [a << 10 | b << 5 | c, product].map(u16::to_be_bytes);
    [&[0x0c], maker.as_slice(), &product].concat()
}

/// The resources of a device.
pub(super) fn resources(of: &[Vec<u8>]) -> Vec<u8> {
    // The end tag, with a checksum of zero: "treat it as right".
    let bytes = [of.concat(), vec![0x79, 0]].concat();
    let count = number(u32::try_from(bytes.len()).expect("a device has a few resources"));
    [&[0x11], sized(&[count, bytes].concat()).as_slice()].concat()
}

/// Ports.
pub(super) fn ports(first: u16, count: u8) -> Vec<u8> {
    let [low, high] = first.to_le_bytes();
    vec![0x47, 1, low, high, low, high, 1, count]
}

/// One of the 16 lines of a PC, edge-triggered.
pub(super) fn line(line: u8) -> Vec<u8> {
    let [low, high] = (1u16 << line).to_le_bytes();
    vec![0x22, low, high]
}

/// Memory that is read and written, below 4 GiB.
pub(super) fn memory(address: u32, bytes: u32) -> Vec<u8> {
    [&[0x86, 9, 0, 1], address.to_le_bytes().as_slice(), &bytes.to_le_bytes()].concat()
}

/// A line of the I/O APIC: level-triggered, active high, shared.
pub(super) fn shared_level(line: u32) -> Vec<u8> {
    [&[0x89, 6, 0, 0b1001, 1], line.to_le_bytes().as_slice()].concat()
}

/// Bytes with their length, which counts itself, in front.
fn sized(content: &[u8]) -> Vec<u8> {
    let lead = |following: usize| content.len() + 1 + following;
    let prefix = match content.len() {
        0..=62 => vec![lead(0)],
        63..=0xffd => long(lead(1), 1),
        0xffe..=0xf_fffc => long(lead(2), 2),
        _ => long(lead(3), 3),
    };
    let bytes = prefix.into_iter().map(|byte| u8::try_from(byte & 0xff).expect("it is masked"));
    bytes.chain(content.iter().copied()).collect()
}

/// The lowest four bits with the number of bytes that follow, then these.
fn long(length: usize, following: usize) -> Vec<usize> {
    let mut bytes = vec![following << 6 | length & 0xf];
    bytes.extend((0..following).map(|n| length >> (4 + 8 * n)));
    bytes
}
