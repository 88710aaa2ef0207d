//! One cluster with its server: found or made, started, and stopped with its owner. The first process to come owns
//! it; a second one is its guest and stops nothing.

use super::{
    Options,
    account::Account,
    binaries::Binaries,
    choose::choose,
    cluster,
    error::{Doing, Error},
    find::Search,
    leftovers,
    place::Place,
    process::Process,
    readiness::{Readiness, ask},
    settings, url,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a start may take; recovery after a crash is part of it.
const START_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

/// A private Postgres. Dropping it stops the server, if this process owns it.
#[derive(Debug)]
pub struct Server {
    options: Options,
    place: Place,
    account: Account,
    binaries: Binaries,
    process: Mutex<Option<Process>>,
    /// Held as long as we own the cluster; `None` for a guest.
    lock: Option<fs::File>,
}

impl Server {
    /// Finds a Postgres, makes the cluster where there is none, and starts it. Blocks until logins are accepted;
    /// in asynchronous code, call it on a thread for blocking work.
    ///
    /// # Errors
    /// Everything in [`Error`]; in particular when there is no Postgres, or only one of another major version than
    /// the data.
    pub fn start(options: &Options) -> Result<Server, Error> {
        Server::start_from(options, &Search::of_environment()?)
    }

    /// Like [`Server::start`], looking for a Postgres only where `search` says.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_from(options: &Options, search: &Search) -> Result<Server, Error> {
        let account = Account::current()?;
        let place = Place::prepare(&options.directory, &account)?;
        let lock = place.lock()?;
        let binaries = choose(search, &place, &account)?;
        let options = options.clone();
        let server = Server {
            options,
            place,
            account,
            binaries,
            process: Mutex::new(None),
            lock,
        };
        if server.lock.is_some() {
            server.open()?;
        } else {
            server.join()?;
        }
        Ok(server)
    }

    /// A connection URL for `sqlx` and `psql`; the socket's directory is percent-encoded.
    pub fn url(&self, database: &str) -> String {
        url::of_socket(&self.place.socket, settings::port(&self.options), database)
    }

    /// The directory with `postgres`, `initdb` and the rest.
    pub fn binaries(&self) -> &Path {
        &self.binaries.directory
    }

    /// One line: which Postgres this is and where it came from.
    pub fn origin(&self) -> &str {
        &self.binaries.origin
    }

    /// The server's major version, such as 18.
    pub fn major(&self) -> u32 {
        self.binaries.major
    }

    /// Where the cluster lives; another directory than the one asked for where that one is closed to the account.
    pub fn directory(&self) -> &Path {
        &self.place.base
    }

    /// Whether this process owns the server, rather than being the guest of another.
    pub fn is_owner(&self) -> bool {
        self.lock.is_some()
    }

    /// Stops the server: sessions are ended, everything committed is kept. A guest stops nothing.
    ///
    /// # Errors
    /// When the server process cannot be waited for.
    pub fn stop(&self) -> Result<(), Error> {
        match self.process().take() {
            Some(process) => process
                .stop()
                .map(drop)
                .doing("stop the server in", &self.place.base),
            None => Ok(()),
        }
    }

    /// Stops the server if it runs, and starts it again on the same data and the same URL.
    ///
    /// # Errors
    /// [`Error::NotOwner`] for a guest; else as [`Server::start`].
    pub fn restart(&self) -> Result<(), Error> {
        if !self.is_owner() {
            return Err(Error::NotOwner {
                action: "restart",
                directory: self.place.base.clone(),
            });
        }
        self.stop()?;
        self.open()
    }

    /// Kills the server with signal 9, as a crash would, and waits until it is gone. For crash tests;
    /// [`Server::restart`] brings it back.
    ///
    /// # Errors
    /// [`Error::NotOwner`] for a guest or where no server runs; else when the signal cannot be sent.
    pub fn kill9(&self) -> Result<(), Error> {
        let not_owner = || Error::NotOwner {
            action: "kill",
            directory: self.place.base.clone(),
        };
        let mut process = self.process().take().ok_or_else(not_owner)?;
        let pid =
            leftovers::pid_in(&self.place.data.join("postmaster.pid"))?.ok_or_else(not_owner)?;
        let status = Command::new("kill")
            .args(["-9", &pid])
            .status()
            .doing("run", "kill")?;
        if !status.success() {
            return Err(std::io::Error::other(status.to_string()))
                .doing("kill the server in", &self.place.base);
        }
        process
            .wait_for_end(START_LIMIT)
            .doing("wait for the server in", &self.place.base)?;
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A panic elsewhere does not make the handle wrong: it is only ever replaced whole.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> PathBuf {
        self.place
            .socket
            .join(format!(".s.PGSQL.{}", settings::port(&self.options)))
    }

    /// As the owner: makes what is missing, clears what a killed run left, and starts.
    fn open(&self) -> Result<(), Error> {
        let (place, account) = (&self.place, &self.account);
        if cluster::version_of(&place.data)?.is_none() {
            cluster::create(place, &self.binaries, account, self.options.durability)?;
        }
        leftovers::clear(place, &self.socket(), &self.binaries, account)?;
        place.open_socket_directory(account)?;
        let begun = Instant::now();
        loop {
            let mut process = self.spawn()?;
            match self.wait_until_ready(&mut process)? {
                Outcome::Ready => {
                    *self.process() = Some(process);
                    return Ok(());
                }
                // Sessions of a server killed a moment ago hold on to its memory until they notice.
                Outcome::Ended(log)
                    if log.contains("pre-existing shared memory block")
                        && begun.elapsed().as_secs() < 10 =>
                {
                    sleep(Duration::from_millis(100));
                }
                Outcome::Ended(log) => {
                    let seconds = begun.elapsed().as_secs();
                    return Err(Error::DidNotStart {
                        directory: place.base.clone(),
                        seconds,
                        log,
                    });
                }
            }
        }
    }

    fn spawn(&self) -> Result<Process, Error> {
        let log = self.place.base.join("log");
        if log.is_file() {
            // One start, one log, and the one before it: neither grows for ever, and a crash can still be read about.
            fs::rename(&log, self.place.base.join("log.1")).doing("rotate", &log)?;
        }
        let file = fs::File::create(&log).doing("create", &log)?;
        let mut arguments = vec![
            "-D".to_owned(),
            self.place.data.to_string_lossy().into_owned(),
        ];
        arguments.extend([
            "-k".to_owned(),
            self.place.socket.to_string_lossy().into_owned(),
        ]);
        arguments.extend(settings::arguments(&self.options));
        let shell = self
            .account
            .command("/bin/sh", self.binaries.libraries.as_deref());
        Process::spawn(shell, &self.binaries.program("postgres"), &arguments, file)
    }

    fn wait_until_ready(&self, process: &mut Process) -> Result<Outcome, Error> {
        let (begun, socket) = (Instant::now(), self.socket());
        while ask(&socket) != Readiness::Ready {
            let ended = process
                .ended()
                .doing("wait for the server in", &self.place.base)?
                .is_some();
            if ended || begun.elapsed() > START_LIMIT {
                let log = fs::read_to_string(self.place.base.join("log")).unwrap_or_default();
                return Ok(Outcome::Ended(log.trim().to_owned()));
            }
            sleep(POLL);
        }
        Ok(Outcome::Ready)
    }

    /// As a guest: waits until the owner's server accepts logins.
    fn join(&self) -> Result<(), Error> {
        let (begun, socket) = (Instant::now(), self.socket());
        while ask(&socket) != Readiness::Ready {
            if begun.elapsed() > START_LIMIT {
                return Err(Error::Held {
                    lock: self.place.base.join("lock"),
                });
            }
            sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lock goes after this, so the next owner finds the server stopped.
        drop(self.process().take());
        if self.is_owner() {
            // One below /tmp would stay for ever. It is empty now, or somebody else's and stays.
            let _ = fs::remove_dir(&self.place.socket);
        }
    }
}

enum Outcome {
    Ready,
    /// It ended, or time is up; what its log says.
    Ended(String),
}
