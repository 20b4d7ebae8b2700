//! The security gateway for the Model Context Protocol.
mod config;

fn main() {
    let _ = config::Config::load(None, &config::Overrides::default());
    let _ = (config::schema(), config::markdown());
}
