//! Postgres refuses to run as root, and containers usually are root: then it runs as `postgres`, else as `nobody`.

use super::error::{Doing, Error};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

/// Who the Postgres programs run as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    /// The user the server's files belong to.
    pub(super) user: u32,
    /// Set when we are root: the user and group to become.
    become_ids: Option<(u32, u32)>,
}

impl Account {
    /// The account for this process.
    pub(super) fn current() -> Result<Account, Error> {
        let user = own_user()?;
        if user != 0 {
            return Ok(Account {
                user,
                become_ids: None,
            });
        }
        let passwd = fs::read_to_string("/etc/passwd").doing("read", "/etc/passwd")?;
        let ids = ["postgres", "nobody"]
            .iter()
            .find_map(|name| ids_of(&passwd, name));
        let (user, group) = ids.ok_or(Error::NoAccount)?;
        Ok(Account {
            user,
            become_ids: Some((user, group)),
        })
    }

    /// Whether we are root and step down for Postgres.
    pub(super) fn steps_down(&self) -> bool {
        self.become_ids.is_some()
    }

    /// Gives a path to the account.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        match self.become_ids {
            Some((user, group)) => {
                chown(path, Some(user), Some(group)).doing("change the owner of", path)
            }
            None => Ok(()),
        }
    }

    /// A Postgres program, run the same way every time: as the account, in a directory it can read, in English, in
    /// its own process group (a Ctrl-C must not stop Postgres before us), deaf to the caller's `PG*` variables.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, libraries: Option<&OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C").process_group(0);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG"))
        {
            command.env_remove(name);
        }
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some((user, group)) = self.become_ids {
            command.uid(user).gid(group);
        }
        command
    }
}

/// The effective user id of this process; `id` because the standard library has no call for it.
pub(super) fn own_user() -> Result<u32, Error> {
    let output = Command::new("id").arg("-u").output().doing("run", "id")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(std::io::Error::other)
        .doing("read the answer of", "id")
}

fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::ids_of;

    #[test]
    fn a_passwd_line_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(ids_of(passwd, "postgres"), Some((101, 104)));
        assert_eq!(ids_of(passwd, "nobody"), None);
        assert_eq!(ids_of("postgres:x\n", "postgres"), None);
    }
}
