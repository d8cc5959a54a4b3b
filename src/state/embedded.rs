//! State, embedded: one file on this machine, every value in it sealed.
//!
//! 1. A server has every page checked against its checksum before it opens the file. An octet that changed on the disk may
//!    stand in the tree, where it would hide a record, and no seal tells of that.
//! 2. The file is opened with the key-encryption key: one of its slots holds the data key, sealed under that key.
//!    The newest slot opened drops the others: a key that was replaced opens nothing from then on.
//! 3. A record is read by one look-up in a tree, and opened; what does not open is named.
//! 4. Changes are sealed and written in one transaction, which is on the disk when the call returns.
//! 5. What a full or failing disk did not take was never written. The library gives such a file up; the next call opens it
//!    anew, so that it goes on once there is room.
//!
//! Takes:   a path, and a [`KeyKey`].
//! Gives:   [`Embedded`], a [`Store`]; by [`Embedded::rotate`] another key-encryption key in one transaction.
//! Keeps:   the file, and of its pages as many octets in memory as it is told: they come in as they are read, and a server
//!          that had every page checked has them from the start. What another process writes empties that. Several
//!          processes may have it open, and one at a time writes, so that a command changes what a server reads;
//!          [`Embedded::serve`] is for one alone.
//! Refuses: a file that others may read, a key that does not open it, a record that was altered or moved. A file put
//!          back as it was yesterday is not told from today's: that takes a counter which no file can be. Another file in the place of the one that was opened.
//! Sources: SEC_CF 1.1 SEC-001; V-148.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::{
    CommitError, ConcurrencyMode, Database, DatabaseError, ReadableDatabase as _,
    ReadableTable as _, ReadableTableMetadata as _, StorageError, TableDefinition, TableError,
    TransactionError,
};
use zeroize::Zeroizing;

use super::seal::{KeyKey, MARK, Seal, shown};
use super::{CHANGES_MAX, COUNT_MAX, Change, Count, Fault, Record, Store, Table, Value};
use crate::clock;
use crate::instant::WallTime;
use crate::keys::subscribers::file::others_may_read;

/// Octets of the file that are held in memory at most, where nothing else is said: a million subscribers, and what their
/// sequence numbers take.
pub const CACHE: usize = 512 * 1024 * 1024;
/// The same for who changes a few records and goes.
const CACHE_OF_COMMANDS: usize = 64 * 1024 * 1024;

/// A store in one file.
pub struct Embedded {
    /// Nothing between a failure of the disk and the next call.
    file: RwLock<Option<Database>>,
    path: PathBuf,
    /// Octets of it in memory at most.
    cache: usize,
    /// Which file of this machine it is.
    place: Place,
    seal: Seal,
}

/// Device and number of a file.
type Place = (u64, u64);

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// By the mark of a key-encryption key: its age, and the data key sealed under it.
const SLOTS: Definition = TableDefinition::new("slots");
/// By nonce: until when, and the counts that were spent.
const COUNTS: Definition = TableDefinition::new("counts");
/// What counts are sealed as.
const COUNTS_PLACE: u8 = 128;
/// Most nonces whose counts are kept.
const WINDOWS_MAX: u64 = 1_000_000;
/// Octets of a window: until when, then a bit for each count.
const WINDOW: usize = 8 + 520;

fn of(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

/// The right to serve from a store: one process at a time has it, until it is dropped.
#[derive(Debug)]
pub struct Serving {
    _lock: File,
}

impl Embedded {
    /// Opens the store at `path` for a command; with `make`, a new one if there is none.
    ///
    /// # Errors
    ///
    /// A [`Fault`], by the reason.
    pub fn open(path: &Path, key: &KeyKey, make: bool) -> Result<Self, Fault> {
        let opening = Opening { make, check: false, cache: CACHE_OF_COMMANDS };
        guarded(|| Self::open_with(path, key, opening))
    }

    /// The same, once every page of the file was found to be what was written. That reads all of it; of what was read, at
    /// most `cache` octets stay in memory.
    ///
    /// # Errors
    ///
    /// As [`Embedded::open`]; [`Fault::Broken`] for an octet that changed, wherever it stands.
    pub fn open_whole(path: &Path, key: &KeyKey, make: bool, cache: usize) -> Result<Self, Fault> {
        guarded(|| Self::open_with(path, key, Opening { make, check: true, cache }))
    }

    fn open_with(path: &Path, key: &KeyKey, opening: Opening) -> Result<Self, Fault> {
        let (file, place) = database(path, opening)?;
        let seal = Seal::new(data_key(&file, key)?);
        if opening.check {
            read_once(&file)?;
        }
        let (file, cache) = (RwLock::new(Some(file)), opening.cache);
        Ok(Self { file, path: path.to_owned(), cache, place, seal })
    }

    /// Does `work` with the file. After a failure of the disk it is opened anew first; another failure closes it.
    fn on<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        guarded(|| {
            self.open_anew()?;
            let done = self.file().as_ref().map_or_else(|| Err(gone()), work);
            if matches!(done, Err(Fault::Away(_))) {
                *self.file.write().unwrap_or_else(PoisonError::into_inner) = None;
            }
            done
        })
    }

    fn file(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_anew(&self) -> Result<(), Fault> {
        if self.file().is_some() {
            return Ok(());
        }
        let mut open = self.file.write().unwrap_or_else(PoisonError::into_inner);
        if open.is_some() {
            return Ok(());
        }
        let opening = Opening { make: false, check: false, cache: self.cache };
        let (file, place) = database(&self.path, opening)?;
        if place != self.place {
            return Err(Fault::Broken("another file is in its place".into()));
        }
        *open = Some(file);
        Ok(())
    }

    /// What stands under that key in each of the tables, as one transaction left it.
    fn read_each<const N: usize>(
        &self,
        tables: [Table; N],
        key: &[u8],
    ) -> Result<[Option<Value>; N], Fault> {
        self.on(|file| {
            let reading = file.begin_read()?;
            let mut found = [const { None }; N];
            for (found, table) in found.iter_mut().zip(tables) {
                let records = match reading.open_table(of(table)) {
                    Err(TableError::TableDoesNotExist(_)) => continue,
                    records => records?,
                };
                if let Some(sealed) = records.get(key)? {
                    *found = Some(self.seal.open(table, key, sealed.value())?);
                }
            }
            Ok(found)
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the right to serve from it.
    ///
    /// # Errors
    ///
    /// [`Fault::Busy`] if another process has it.
    pub fn serve(&self) -> Result<Serving, Fault> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".lock");
        let lock = own_file(Path::new(&path));
        let lock = lock.map_err(|error| Fault::Away(error.to_string().into()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Serving { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Fault::Busy),
            Err(TryLockError::Error(error)) => Err(Fault::Away(error.to_string().into())),
        }
    }

    /// Lets `key` open the store too. The keys that open it now do so until it is opened with `key`: at no moment is
    /// there none, whenever the power fails.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; nothing was changed then.
    pub fn rotate(&self, key: &KeyKey) -> Result<(), Fault> {
        self.on(|file| {
            let writing = file.begin_write()?;
            {
                let mut slots = writing.open_table(SLOTS)?;
                let newest = ages(&slots)?.into_iter().map(|(age, _)| age).max().unwrap_or(0);
                let slot = slot(key, newest.saturating_add(1), self.seal.data());
                slots.insert(key.mark().as_slice(), slot.as_slice())?;
            }
            Ok(writing.commit()?)
        })
    }

    /// Reads every record; those that are not what was written, and how many there are in all.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the file cannot be read to its end.
    pub fn examine(&self) -> Result<(u64, Vec<Fault>), Fault> {
        self.on(|file| {
            let reading = file.begin_read()?;
            let (mut count, mut faults) = (0_u64, Vec::new());
            for table in Table::ALL {
                let records = match reading.open_table(of(table)) {
                    Err(TableError::TableDoesNotExist(_)) => continue,
                    records => records?,
                };
                for record in records.range::<&[u8]>(..)? {
                    let (key, value) = record?;
                    count = count.saturating_add(1);
                    faults.extend(self.seal.open(table, key.value(), value.value()).err());
                }
            }
            match reading.open_table(COUNTS) {
                Err(TableError::TableDoesNotExist(_)) => {}
                windows => {
                    for window in windows?.range::<&[u8]>(..)? {
                        let (nonce, sealed) = window?;
                        count = count.saturating_add(1);
                        let window = self.seal.open_at(COUNTS_PLACE, nonce.value(), sealed.value());
                        let spoilt = || Fault::Broken("the counts of a nonce".into());
                        faults.extend(window.is_none().then(spoilt));
                    }
                }
            }
            Ok((count, faults))
        })
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded({})", self.path.display())
    }
}

impl Store for Embedded {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Value>, Fault> {
        let [value] = self.read_each([table], key)?;
        Ok(value)
    }

    fn read_both(&self, tables: [Table; 2], key: &[u8]) -> Result<[Option<Value>; 2], Fault> {
        self.read_each(tables, key)
    }

    fn walk(&self, table: Table, after: &[u8], most: usize) -> Result<Vec<Record>, Fault> {
        self.on(|file| {
            let reading = file.begin_read()?;
            let records = match reading.open_table(of(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                records => records?,
            };
            let range = (Bound::Excluded(after), Bound::<&[u8]>::Unbounded);
            let mut found = Vec::new();
            for record in records.range::<&[u8]>(range)?.take(most) {
                let (key, sealed) = record?;
                let value = self.seal.open(table, key.value(), sealed.value())?;
                found.push((key.value().into(), value));
            }
            Ok(found)
        })
    }

    fn count(&self, table: Table) -> Result<u64, Fault> {
        self.on(|file| {
            let reading = file.begin_read()?;
            match reading.open_table(of(table)) {
                Err(TableError::TableDoesNotExist(_)) => Ok(0),
                records => Ok(records?.len()?),
            }
        })
    }

    fn write(&self, changes: &[Change<'_>]) -> Result<(), Fault> {
        self.on(|file| {
            let Some(first) = changes.first() else { return Ok(()) };
            if changes.len() > CHANGES_MAX {
                return Err(Fault::Unfit(first.place().0));
            }
            changes.iter().try_for_each(Change::check)?;
            let writing = file.begin_write()?;
            for table in Table::ALL {
                let mut own = changes.iter().filter(|change| change.place().0 == table).peekable();
                if own.peek().is_none() {
                    continue;
                }
                let mut records = writing.open_table(of(table))?;
                for change in own {
                    match change {
                        Change::Put(_, key, value) => {
                            let sealed = self.seal.seal(table as u8, key, value);
                            records.insert(*key, sealed.as_slice())?;
                        }
                        Change::Raise(_, key, value) => {
                            let known = records.get(*key)?;
                            let known =
                                known.map(|sealed| self.seal.open(table, key, sealed.value()));
                            if known.transpose()?.is_none_or(|known| known.as_slice() < *value) {
                                let sealed = self.seal.seal(table as u8, key, value);
                                records.insert(*key, sealed.as_slice())?;
                            }
                        }
                        Change::Remove(_, key) => {
                            records.remove(*key)?;
                        }
                    }
                }
                if records.len()? > table.most() {
                    // What is not committed was never written.
                    return Err(Fault::Full(table));
                }
            }
            Ok(writing.commit()?)
        })
    }

    fn spend(&self, count: Count, life: Duration, now: WallTime) -> Result<bool, Fault> {
        self.on(|file| {
            if count.count > COUNT_MAX {
                return Ok(false);
            }
            let nonce = count.nonce.to_be_bytes();
            let writing = file.begin_write()?;
            let unseen = {
                let mut windows = writing.open_table(COUNTS)?;
                let sealed = windows.get(nonce.as_slice())?.map(|value| value.value().to_vec());
                if sealed.is_none() && windows.len()? >= WINDOWS_MAX {
                    let is_alive = |key: &[u8], sealed: &[u8]| {
                        let window = self.seal.open_at(COUNTS_PLACE, key, sealed);
                        window.is_some_and(|window| until(&window) > now)
                    };
                    windows.retain(is_alive)?;
                    if windows.len()? >= WINDOWS_MAX {
                        return Ok(false);
                    }
                }
                let known = sealed.map(|sealed| {
                    let window = self.seal.open_at(COUNTS_PLACE, &nonce, &sealed);
                    window.ok_or_else(|| Fault::Broken("the counts of a nonce".into()))
                });
                let fresh = || Zeroizing::new(vec![0; WINDOW]);
                let mut window = known.transpose()?.unwrap_or_else(fresh);
                let ends = until(&window).max(now + life).as_unix().to_be_bytes();
                if let Some(place) = window.first_chunk_mut() {
                    *place = ends;
                }
                let place =
                    usize::try_from(count.count / 8).unwrap_or(usize::MAX).saturating_add(8);
                let bit = 1_u8 << (count.count % 8);
                let Some(octet) = window.get_mut(place) else { return Ok(false) };
                let unseen = *octet & bit == 0;
                *octet |= bit;
                let sealed = self.seal.seal(COUNTS_PLACE, &nonce, &window);
                windows.insert(nonce.as_slice(), sealed.as_slice())?;
                unseen
            };
            writing.commit()?;
            Ok(unseen)
        })
    }
}

/// Does it, and says so if the library of the tree could not go on: once a file is open it trusts what stands there, and
/// panics over a page that is none.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Fault::Broken("a page of it is not what was written".into())))
}

fn until(window: &[u8]) -> WallTime {
    let seconds = window.first_chunk().copied().map_or(0, u64::from_be_bytes);
    WallTime::from_unix(seconds)
}

/// How a file is opened.
#[derive(Clone, Copy)]
struct Opening {
    /// Whether one is made if there is none.
    make: bool,
    /// Whether every page is checked first.
    check: bool,
    /// Octets of it in memory at most.
    cache: usize,
}

/// A file that its owner alone may open: whoever can open it can hold its lock.
fn own_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mut may = file.metadata()?.permissions();
        if may.mode() & 0o077 != 0 {
            may.set_mode(0o600);
            file.set_permissions(may)?;
        }
    }
    Ok(file)
}

/// Opens the file, and says which it is.
fn database(path: &Path, opening: Opening) -> Result<(Database, Place), Fault> {
    let Opening { make, check, cache } = opening;
    let shown_path = path.display();
    let fails = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => Fault::Broken("it is no store".into()),
        _ => Fault::Away(format!("{shown_path}: {error}").into()),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(make);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let facts = options.open(path).and_then(|file| file.metadata()).map_err(fails)?;
    if others_may_read(&facts) {
        let why = format!("{shown_path} can be read by others: chmod 600 {shown_path}");
        return Err(Fault::Away(why.into()));
    }
    if facts.len() == 0 && !make {
        return Err(Fault::Broken("it is empty".into()));
    }
    let mut builder = Database::builder();
    builder.set_cache_size(cache).set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder.set_check_integrity_on_open(check);
    let file = builder.create(path).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(error)) => fails(error),
        error => error.into(),
    })?;
    Ok((file, place_of(&facts)))
}

/// Reads the tables that are asked one record at a time, so that their pages are in memory before the first look-up, as
/// far as there is room. Nothing is opened: that a page holds them is all that counts here.
fn read_once(file: &Database) -> Result<(), Fault> {
    let reading = file.begin_read()?;
    for table in [Table::Subscribers, Table::Sequences] {
        let records = match reading.open_table(of(table)) {
            Err(TableError::TableDoesNotExist(_)) => continue,
            records => records?,
        };
        for record in records.range::<&[u8]>(..)? {
            record?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn place_of(facts: &Metadata) -> Place {
    use std::os::unix::fs::MetadataExt as _;
    (facts.dev(), facts.ino())
}

#[cfg(not(unix))]
fn place_of(_: &Metadata) -> Place {
    (0, 0)
}

fn gone() -> Fault {
    Fault::Away("it was closed after a failure of the disk".into())
}

/// Step 2.
fn data_key(file: &Database, key: &KeyKey) -> Result<Zeroizing<[u8; 32]>, Fault> {
    let writing = file.begin_write()?;
    // The power may have failed between the making of the file and that of its first slot.
    let is_new = writing.list_tables()?.next().is_none();
    let data = {
        let mut slots = writing.open_table(SLOTS)?;
        let ages = ages(&slots)?;
        if ages.is_empty() && is_new {
            let data = Zeroizing::new(clock::random());
            let slot = slot(key, 1, &data);
            slots.insert(key.mark().as_slice(), slot.as_slice())?;
            data
        } else {
            let own = slots.get(key.mark().as_slice())?.map(|slot| slot.value().to_vec());
            let Some(own) = own else {
                let marks: Vec<String> = ages.iter().map(|(_, mark)| shown(mark)).collect();
                let (given, wanted) = (key.shown().into(), marks.join(" or ").into());
                return Err(Fault::KeyWrong { given, wanted });
            };
            let damaged = || Fault::Broken(format!("the slot of key {}", key.shown()).into());
            let (age, sealed) = own.split_first_chunk::<4>().ok_or_else(damaged)?;
            let data = key.unwrap(sealed, age).ok_or_else(damaged)?;
            let age = u32::from_be_bytes(*age);
            if ages.iter().any(|(other, _)| *other < age)
                && ages.iter().all(|(other, _)| *other <= age)
            {
                slots.retain(|mark, _| mark == key.mark())?;
            }
            data
        }
    };
    writing.commit()?;
    Ok(data)
}

fn slot(key: &KeyKey, age: u32, data: &[u8; 32]) -> Vec<u8> {
    let age = age.to_be_bytes();
    [age.as_slice(), &key.wrap(data, &age)].concat()
}

/// The age of each slot, and the mark of its key.
fn ages(slots: &redb::Table<'_, &[u8], &[u8]>) -> Result<Vec<(u32, [u8; MARK])>, Fault> {
    let mut found = Vec::new();
    for slot in slots.range::<&[u8]>(..)? {
        let (mark, slot) = slot?;
        let age = slot.value().first_chunk().copied().map_or(0, u32::from_be_bytes);
        found.push((age, mark.value().first_chunk().copied().unwrap_or_default()));
    }
    Ok(found)
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(why) => Self::Broken(why.into()),
            error => Self::Away(error.to_string().into()),
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Busy,
            DatabaseError::Storage(error) => error.into(),
            error => Self::Broken(error.to_string().into()),
        }
    }
}

impl From<TransactionError> for Fault {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            error => Self::Away(error.to_string().into()),
        }
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            error => Self::Broken(error.to_string().into()),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            error => Self::Away(error.to_string().into()),
        }
    }
}
