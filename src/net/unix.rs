//! Listening at a socket in the file system.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens at `path`, for the process' user and group only. A socket that a dead process left
/// behind is replaced; any other file is not touched.
///
/// # Errors
/// If something lives at `path`, or it may not be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path) {
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            _ => return Err(ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so nobody comes in before the mode is set.
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).expect("a socket that nobody serves"));
        let _listener = listen(&path).expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(listen(&path).map_err(|why| why.kind()).err(), Some(ErrorKind::AddrInUse));

        let file = folder.path().join("precious");
        fs::write(&file, "text").expect("written");
        assert_eq!(listen(&file).map_err(|why| why.kind()).err(), Some(ErrorKind::AddrInUse));
        assert_eq!(fs::read_to_string(&file).expect("still there"), "text");
    }
}
