//! What works on the queue. The queue itself is the table of chunks, behind the port `ChunkQueue`.

pub mod worker;
