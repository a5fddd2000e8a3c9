//! Turns the messages of `proto/record.proto` that have a codec by hand into Rust, without needing protoc on the machine.

/// The codecs in `src/record/`. All other messages come from tables there, and need no types of their own.
const BY_HAND: [&str; 6] = ["FirstUse", "Scanned", "Undone", "Lot", "Line", "Transaction"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/record.proto");
    let mut descriptors = protox::compile(["proto/record.proto"], ["proto"])?;
    for file in &mut descriptors.file {
        file.message_type.retain(|message| BY_HAND.contains(&message.name()));
        file.source_code_info = None; // it counts the messages that were there
    }
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
