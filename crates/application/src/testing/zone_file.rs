//! A file of a time zone, for tests of rules that come from outside.

/// A `TZif` file whose zone is ahead of UTC by `hours` for ever.
#[must_use]
pub fn zone_file(hours: i32) -> Vec<u8> {
    let mut file = Vec::new();
    // The first part is for readers of 32 bits; the second counts.
    for _ in 0..2 {
        file.extend_from_slice(b"TZif2");
        file.extend_from_slice(&[0; 15]);
        // No leap seconds, no transitions, one type, and its name.
        for count in [0, 0, 0, 0, 1, 4_u32] {
            file.extend_from_slice(&count.to_be_bytes());
        }
        file.extend_from_slice(&(hours * 3600).to_be_bytes());
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(b"AAA\0");
    }
    file.extend_from_slice(format!("\n<AAA>{}\n", -hours).as_bytes());
    file
}
