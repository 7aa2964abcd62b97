//! Compiles the payload types of `proto/`, as any other service makes its own.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 3] = ["identity", "inbound", "outcome"];
    let files = FILES.map(|name| format!("../../proto/whatsapp/connector/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(files, ["../../proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
