//! A WebAssembly module, assembled by hand: it writes a greeting to its standard output and
//! leaves with code 0.
//!
//! Source: WebAssembly Core Specification 1.0, chapter 5 "Binary Format"; WASI preview 1,
//! `fd_write` and `proc_exit`.

/// What it says.
pub(super) const GREETING: &str =
    "Hello from a Wasm sandbox: this is the image demo, for wasi/wasm.\n";

/// Value type of 32-bit integers.
const I32: u8 = 0x7f;
/// Where the list of buffers is in memory; the greeting follows it, then the count of bytes.
const IOVEC: u32 = 0;
const TEXT: u32 = 8;

/// The module.
pub(super) fn module() -> Vec<u8> {
    let written = (TEXT + length(GREETING.as_bytes())).next_multiple_of(4);
    let code = [
        call_with(0, &[1, IOVEC, 1, written]),
        // What fd_write answers is left alone: there is nobody to tell.
        vec![DROP],
        call_with(1, &[0]),
        vec![END],
    ]
    .concat();
    let iovec = [TEXT, length(GREETING.as_bytes())].map(u32::to_le_bytes).concat();
    let module = "wasi_snapshot_preview1";
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(
            1,
            &[
                function_type(&[I32; 4], &[I32]),
                function_type(&[I32], &[]),
                function_type(&[], &[]),
            ],
        ),
        section(2, &[import(module, "fd_write", 0), import(module, "proc_exit", 1)]),
        // Function 2, after the two imported ones, has type 2.
        section(3, &[vec![2]]),
        // One memory of one page at least.
        section(5, &[vec![0, 1]]),
        section(7, &[export("memory", 2, 0), export("_start", 0, 2)]),
        section(10, &[sized(&[vec![0], code].concat())]),
        section(11, &[data(IOVEC, &[iovec, GREETING.as_bytes().to_vec()].concat())]),
    ]
    .concat()
}

const END: u8 = 0x0b;
const CALL: u8 = 0x10;
const DROP: u8 = 0x1a;
const I32_CONST: u8 = 0x41;

/// The index of a function, and constants as its arguments.
fn call_with(function: u32, arguments: &[u32]) -> Vec<u8> {
    let mut code: Vec<u8> = arguments.iter().flat_map(|&value| constant(value)).collect();
    code.push(CALL);
    code.extend(unsigned(function));
    code
}

fn constant(value: u32) -> Vec<u8> {
    [vec![I32_CONST], signed(value)].concat()
}

fn section(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(items.len()).expect("a handful of items");
    let body = [unsigned(count), items.concat()].concat();
    [vec![id], sized(&body)].concat()
}

fn function_type(parameters: &[u8], results: &[u8]) -> Vec<u8> {
    [vec![0x60], sized(parameters), sized(results)].concat()
}

fn import(module: &str, name: &str, kind: u32) -> Vec<u8> {
    [sized(module.as_bytes()), sized(name.as_bytes()), vec![0], unsigned(kind)].concat()
}

fn export(name: &str, kind: u8, index: u32) -> Vec<u8> {
    [sized(name.as_bytes()), vec![kind], unsigned(index)].concat()
}

fn data(at: u32, bytes: &[u8]) -> Vec<u8> {
    [vec![0], constant(at), vec![END], sized(bytes)].concat()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("the module is a few hundred bytes")
}

/// Bytes after their number.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [unsigned(length(bytes)), bytes.to_vec()].concat()
}

/// Unsigned LEB128.
fn unsigned(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// Signed LEB128 of a number that is not negative.
fn signed(value: u32) -> Vec<u8> {
    let mut out = unsigned(value);
    // The highest bit of the last group is the sign.
    if let Some(last) = out.last_mut().filter(|last| **last & 0x40 != 0) {
        *last |= 0x80;
        out.push(0);
    }
    out
}
