//! The program: HTTPS, the command line, the control socket.

fn main() {}
