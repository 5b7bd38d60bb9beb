//! The Huffman code of HTTP/2's header compression (RFC 7541, appendix B), for the characters of
//! keys and of base64.

/// Bits of a code, the first code, and the characters that have it and its successors.
const CODES: [(u32, u32, &str); 6] = [
    (5, 0x0, "012aceiost"),
    (6, 0x14, " "),
    (6, 0x18, "/3456789=A_bdfghlmnpru"),
    (7, 0x5c, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xfc, "XZ"),
    (11, 0x7fb, "+"),
];

/// The bytes of the code that depend on the text alone where it stands behind `offset` bits of
/// something else.
pub(crate) fn huffman(text: &[u8], offset: usize) -> Vec<u8> {
    let bits = [vec![false; offset], bits(text)].concat();
    let (whole, _) = bits.as_chunks::<8>();
    whole.iter().skip(usize::from(offset > 0)).copied().map(byte).collect()
}

/// The text as a client sends it, filled up with ones.
pub(crate) fn encoded(text: &[u8]) -> Vec<u8> {
    let mut bits = bits(text);
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.as_chunks::<8>().0.iter().copied().map(byte).collect()
}

fn bits(text: &[u8]) -> Vec<bool> {
    let mut bits = Vec::new();
    for &byte in text {
        let (length, code) = CODES
            .iter()
            .find_map(|(length, first, characters)| {
                let place = characters.bytes().position(|character| character == byte)?;
                Some((*length, first + u32::try_from(place).unwrap()))
            })
            .unwrap_or_else(|| panic!("no code for {:?}", char::from(byte)));
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    bits
}

fn byte(bits: [bool; 8]) -> u8 {
    bits.into_iter().fold(0, |byte, bit| byte << 1 | u8::from(bit))
}

#[test]
fn huffman_code_matches_the_rfc() {
    // RFC 7541, C.6.1.
    assert_eq!(encoded(b"302"), [0x64, 0x02]);
    assert_eq!(encoded(b"private"), [0xae, 0xc3, 0x77, 0x1a, 0x4b]);
    assert_eq!(
        huffman(b"private", 0),
        [0xae, 0xc3, 0x77, 0x1a, 0x4b][..huffman(b"private", 0).len()]
    );
    assert_eq!(huffman(b"private", 4)[..2], [0xec, 0x37]);
}
