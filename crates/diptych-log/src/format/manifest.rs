//! The manifest: the small file that says which log a folder contains, and up to which place the
//! log was durable at least. It also names the place of the folder and the run of the machine in
//! which it was written. Pure functions over bytes.

use diptych_store::{Epoch, LogId, LogIdentity, Position};

use crate::{
    disk::{FileSystemId, FolderPlace},
    format::archive::ArchiveId,
};

const MAGIC: &[u8; 8] = b"DIPTYMAN";
/// The newest version of the manifest that this program reads. It writes it for a log that moves:
/// older programs do not know that such a folder takes no commits.
const FORMAT: u16 = 3;
/// The version that it writes for a log with archived segments. Older programs do not know where to
/// find them.
const WITH_ARCHIVE: u16 = 2;
/// The version that it writes for all other logs.
const WITHOUT_ARCHIVE: u16 = 1;
/// Bytes before the fields.
const HEADER: usize = 20;
/// Largest number of bytes of the name of a run of the machine.
pub(crate) const BOOT: usize = 40;
/// No manifest of any version that this program reads has more bytes.
pub(crate) const MOST_BYTES: usize = 64 << 10;

/// The manifest of a log.
///
/// ```text
///   0  magic      8 bytes "DIPTYMAN"
///   8  format     u16     1, 2 with an archive, 3 if the log moves
///  10  oldest     u16     the oldest format whose readers understand it: the same
///  12  length     u32     bytes of the fields, which follow the checksum
///  16  checksum   u32     CRC-32C of all other bytes
///  20  log id     16 bytes
///  36  epoch      u64
///  44  role       u8      0 primary, 1 replica, 2 moved away, 3 moving here
///  45  state      u8      0 open, 1 clean, 2 migrating
///  46  durability u8      0 synced, 1 at an interval
///  47  place      u8      0 unknown, 1 without file system, 2 with a UUID, 3 with a number
///  48  inode      u64
///  56  created    i64     nanoseconds since the Unix epoch, 0 if unknown
///  64  fs         16 bytes, the UUID; or the number, u64, and zeros
///  80  nonce      16 bytes, random for each open that appends
///  96  before     16 bytes, the nonce that `head` had before this open
/// 112  mount      u64
/// 120  boot       40 bytes, UTF-8 and zeros; all zeros if unknown
/// 160  active     u32 sequence, u64 base, u64 end, u64 position
/// 188  sealed     u32 sequence (0: unknown), u64 bytes, u64 chain
/// 208  restored   log id (16 bytes), u64 epoch, u64 position; zeros if not restored
/// 240  archives   u16     0, or 1: the fields behind it are there
/// 242  archive    u8 role (0 owner, 1 reader), 16 bytes id, u32 last archived sequence,
///                 u16 length and bytes of its path, UTF-8
///   .  other      u16 length and bytes, UTF-8: the other place of a move; only with role 2 or 3
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) identity: LogIdentity,
    pub(crate) role: Role,
    pub(crate) state: State,
    /// Where the folder was; `None` if that cannot be known.
    pub(crate) place: Option<FolderPlace>,
    pub(crate) run: Run,
    /// The segment that the log was writing, up to where it was certainly durable.
    pub(crate) active: ActiveSegment,
    /// The segment before the active one, if it is known.
    pub(crate) sealed: Option<SealedSegment>,
    /// The backup that the log was restored from, until it is first opened.
    pub(crate) restored_from: Option<(LogIdentity, Position)>,
    /// Where its archived segments lie.
    pub(crate) archive: Option<ArchivePlace>,
}

/// Where the first segments of a log lie, if they are archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchivePlace {
    /// The folder of the archive.
    pub(crate) path: String,
    pub(crate) id: ArchiveId,
    /// The last archived segment, and so how many there are; 0 if none is yet.
    pub(crate) upto: u32,
    /// The archive belongs to another log, of which this one is a copy. It only reads there.
    pub(crate) only_reads: bool,
}

/// The longest path of an archive, in bytes, which bounds the manifest.
pub(crate) const ARCHIVE_PATH: usize = 4096;
/// The longest path or address of the other place of a move, in bytes, which bounds the manifest.
pub(crate) const OTHER_PATH: usize = 4096;

/// Whether the log takes commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Any open that may append takes commits.
    #[default]
    Primary,
    /// It takes no commits, because it is a copy of another log.
    Replica,
    /// It takes no commits any more, because the log moved to another place.
    Left {
        /// The folder or address to which it moved.
        to: String,
    },
    /// It takes the commits of a move alone, until it has all of them.
    Arriving {
        /// The folder or address from which the log moves.
        from: String,
    },
}

impl Role {
    fn number(&self) -> u8 {
        match self {
            Role::Primary => 0,
            Role::Replica => 1,
            Role::Left { .. } => 2,
            Role::Arriving { .. } => 3,
        }
    }

    /// The other place of a move.
    fn other(&self) -> Option<&str> {
        match self {
            Role::Primary | Role::Replica => None,
            Role::Left { to: other } | Role::Arriving { from: other } => Some(other),
        }
    }
}

/// Whether the log was closed in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is open, or was not closed in order.
    Open,
    /// It was closed in order, with everything durable.
    Clean,
    /// A log of format 1 is about to continue in format 2.
    Migrating,
}

/// The open that wrote the manifest, and the run of the machine and of its disk at that time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The nonce of this open.
    pub(crate) nonce: [u8; 16],
    /// The nonce of the open before.
    pub(crate) before: [u8; 16],
    pub(crate) mount: u64,
    /// Empty if it is not known.
    pub(crate) boot: String,
    /// Whether commits were acknowledged before they were synced.
    pub(crate) at_interval: bool,
}

impl Run {
    /// Whether both are one run of the machine and of its disk. Then the bytes that were written in
    /// the one are still there in the other.
    pub(crate) fn is_same(&self, other: &Run) -> bool {
        !self.boot.is_empty() && (&self.boot, self.mount) == (&other.boot, other.mount)
    }
}

/// A segment, up to the end of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActiveSegment {
    /// 0 if no segment was begun.
    pub(crate) sequence: u32,
    pub(crate) base: Position,
    pub(crate) end: u64,
    pub(crate) position: Position,
}

impl ActiveSegment {
    /// The value of a log that has no segment yet.
    pub(crate) const NONE: ActiveSegment =
        ActiveSegment { sequence: 0, base: Position::START, end: 0, position: Position::START };
}

/// A complete segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedSegment {
    pub(crate) sequence: u32,
    pub(crate) bytes: u64,
    /// The running checksum of all its frames.
    pub(crate) chain: u64,
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadManifest {
    Damaged,
    Newer(u16),
}

impl Manifest {
    /// Whether the log may have acknowledged commits that were not durable.
    pub(crate) fn was_open_at_interval(&self) -> bool {
        self.state == State::Open && self.run.at_interval
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let fields = self.fields();
        let mut bytes = Vec::with_capacity(HEADER + fields.len());
        bytes.extend_from_slice(MAGIC);
        let format = match (self.role.other(), &self.archive) {
            (Some(_), _) => FORMAT,
            (None, Some(_)) => WITH_ARCHIVE,
            (None, None) => WITHOUT_ARCHIVE,
        };
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.extend_from_slice(&(fields.len() as u32).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &fields);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend(fields);
        bytes
    }

    fn fields(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        put_identity(&mut put, self.identity);
        let (kind, place) = match self.place {
            None => (0, FolderPlace { inode: 0, created: 0, file_system: FileSystemId::Unknown }),
            Some(place) => (place_kind(&place), place),
        };
        put(&[self.role.number(), self.state as u8, u8::from(self.run.at_interval), kind]);
        put(&place.inode.to_le_bytes());
        put(&place.created.to_le_bytes());
        put(&match place.file_system {
            FileSystemId::Unknown => [0; 16],
            FileSystemId::Uuid(uuid) => uuid,
            FileSystemId::Number(number) => u128::from(number).to_le_bytes(),
        });
        let Run { nonce, before, mount, boot, .. } = &self.run;
        put(nonce);
        put(before);
        put(&mount.to_le_bytes());
        let mut name = [0; BOOT];
        name.iter_mut().zip(boot.as_bytes()).for_each(|(place, byte)| *place = *byte);
        put(&name);
        let ActiveSegment { sequence, base, end, position } = self.active;
        put(&sequence.to_le_bytes());
        [base.get(), end, position.get()].iter().for_each(|field| put(&field.to_le_bytes()));
        let sealed = self.sealed.unwrap_or(SealedSegment { sequence: 0, bytes: 0, chain: 0 });
        put(&sealed.sequence.to_le_bytes());
        [sealed.bytes, sealed.chain].iter().for_each(|field| put(&field.to_le_bytes()));
        match self.restored_from {
            None => put(&[0; 32]),
            Some((identity, position)) => {
                put_identity(&mut put, identity);
                put(&position.get().to_le_bytes());
            }
        }
        put(&u16::from(self.archive.is_some()).to_le_bytes());
        if let Some(ArchivePlace { path, id, upto, only_reads }) = &self.archive {
            put(&[u8::from(*only_reads)]);
            put(id);
            put(&upto.to_le_bytes());
            put(&(path.len() as u16).to_le_bytes());
            put(path.as_bytes());
        }
        if let Some(other) = self.role.other() {
            put(&(other.len() as u16).to_le_bytes());
            put(other.as_bytes());
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, BadManifest> {
        let damaged = BadManifest::Damaged;
        let (header, rest) = bytes.split_at_checked(HEADER).ok_or(damaged)?;
        let mut header = Fields(header);
        let magic: [u8; 8] = header.take().ok_or(damaged)?;
        let format = header.u16().ok_or(damaged)?;
        let oldest = header.u16().ok_or(damaged)?;
        let length = header.u32().ok_or(damaged)? as usize;
        let says = header.u32().ok_or(damaged)?;
        let fields = rest.get(..length).ok_or(damaged)?;
        let before = bytes.get(..HEADER - 4).unwrap_or(&[]);
        if magic != *MAGIC || crc32c::crc32c_append(crc32c::crc32c(before), fields) != says {
            return Err(damaged);
        }
        if oldest > FORMAT {
            return Err(BadManifest::Newer(format));
        }
        Manifest::parse_fields(Fields(fields)).ok_or(BadManifest::Newer(format))
    }

    fn parse_fields(mut fields: Fields<'_>) -> Option<Manifest> {
        let identity = fields.identity()?;
        let [role, state, durability, kind] = fields.take()?;
        let state = match state {
            0 => State::Open,
            1 => State::Clean,
            2 => State::Migrating,
            _ => return None,
        };
        let place = fields.place(kind)?;
        let (nonce, before, mount) = (fields.take()?, fields.take()?, fields.u64()?);
        let boot: [u8; BOOT] = fields.take()?;
        let boot = boot.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let boot = String::from_utf8_lossy(boot).into_owned();
        let run = Run { nonce, before, mount, boot, at_interval: durability != 0 };
        let active = ActiveSegment {
            sequence: fields.u32()?,
            base: Position::new(fields.u64()?),
            end: fields.u64()?,
            position: Position::new(fields.u64()?),
        };
        let sealed =
            SealedSegment { sequence: fields.u32()?, bytes: fields.u64()?, chain: fields.u64()? };
        let restored = (fields.identity()?, Position::new(fields.u64()?));
        let archive = match fields.u16()? {
            0 => None,
            1 => Some(fields.archive()?),
            _ => return None,
        };
        let role = match role {
            0 => Role::Primary,
            1 => Role::Replica,
            2 => Role::Left { to: fields.text()? },
            3 => Role::Arriving { from: fields.text()? },
            _ => return None,
        };
        Some(Manifest {
            identity,
            role,
            state,
            place,
            run,
            active,
            sealed: Some(sealed).filter(|sealed| sealed.sequence > 0),
            restored_from: Some(restored).filter(|(from, _)| from.id.to_bytes() != [0; 16]),
            archive,
        })
    }
}

fn put_identity(put: &mut impl FnMut(&[u8]), identity: LogIdentity) {
    put(&identity.id.to_bytes());
    put(&identity.epoch.to_u64().to_le_bytes());
}

fn place_kind(place: &FolderPlace) -> u8 {
    match place.file_system {
        FileSystemId::Unknown => 1,
        FileSystemId::Uuid(_) => 2,
        FileSystemId::Number(_) => 3,
    }
}

/// Fields that are not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn archive(&mut self) -> Option<ArchivePlace> {
        let only_reads = match self.take()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let (id, upto, length) = (self.take()?, self.u32()?, usize::from(self.u16()?));
        let path = self.characters(length)?;
        Some(ArchivePlace { path, id, upto, only_reads })
    }

    /// A text behind its length.
    fn text(&mut self) -> Option<String> {
        let length = usize::from(self.u16()?);
        self.characters(length)
    }

    fn characters(&mut self, length: usize) -> Option<String> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }

    fn identity(&mut self) -> Option<LogIdentity> {
        let id = LogId::from_bytes(self.take()?);
        Some(LogIdentity { id, epoch: Epoch::from_u64(self.u64()?) })
    }

    fn place(&mut self, kind: u8) -> Option<Option<FolderPlace>> {
        let (inode, created) = (self.u64()?, self.u64()?.cast_signed());
        let of_file_system: [u8; 16] = self.take()?;
        let number = u64::try_from(u128::from_le_bytes(of_file_system)).unwrap_or(0);
        let file_system = match kind {
            0 => return Some(None),
            1 => FileSystemId::Unknown,
            2 => FileSystemId::Uuid(of_file_system),
            3 => FileSystemId::Number(number),
            _ => return None,
        };
        Some(Some(FolderPlace { inode, created, file_system }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let identity =
            LogIdentity { id: LogId::from_bytes(*b"0123456789abcdef"), epoch: Epoch::from_u64(7) };
        let file_system = FileSystemId::Uuid([9; 16]);
        Manifest {
            identity,
            role: Role::Replica,
            state: State::Migrating,
            place: Some(FolderPlace { inode: 12, created: -3, file_system }),
            run: Run {
                nonce: [1; 16],
                before: [2; 16],
                mount: 77,
                boot: "a run of the machine".to_owned(),
                at_interval: true,
            },
            active: ActiveSegment {
                sequence: 4,
                base: Position::new(100),
                end: 5_000,
                position: Position::new(140),
            },
            sealed: Some(SealedSegment { sequence: 3, bytes: 9_000, chain: u64::MAX - 1 }),
            restored_from: Some((identity, Position::new(99))),
            archive: None,
        }
    }

    fn archived() -> Manifest {
        let archive = ArchivePlace {
            path: "/mnt/archive".to_owned(),
            id: [8; 16],
            upto: 3,
            only_reads: true,
        };
        Manifest { archive: Some(archive), ..manifest() }
    }

    fn moved_away() -> Manifest {
        Manifest { role: Role::Left { to: "/mnt/new".to_owned() }, ..archived() }
    }

    #[test]
    fn golden_bytes() {
        let bytes = manifest().encode();
        assert_eq!(&bytes[..16], b"DIPTYMAN\x01\0\x01\0\xde\0\0\0");
        assert_eq!(&bytes[20..36], b"0123456789abcdef");
        assert_eq!(bytes[44..48], [1, 2, 1, 2]);
        assert_eq!(bytes[80..112], [[1; 16], [2; 16]].concat());
        assert_eq!(&bytes[120..140], b"a run of the machine");
        assert_eq!(bytes[160..164], [4, 0, 0, 0]);
        assert_eq!(bytes.len(), 242);
        let bytes = archived().encode();
        assert_eq!(&bytes[..16], b"DIPTYMAN\x02\0\x02\0\x01\x01\0\0");
        assert_eq!(&bytes[240..243], [1, 0, 1]);
        assert_eq!(&bytes[243..259], [8; 16]);
        assert_eq!(&bytes[259..], b"\x03\0\0\0\x0c\0/mnt/archive");
        let bytes = moved_away().encode();
        assert_eq!(&bytes[..16], b"DIPTYMAN\x03\0\x03\0\x0b\x01\0\0");
        assert_eq!(bytes[44], 2);
        assert_eq!(&bytes[277..], b"\x08\0/mnt/new");
    }

    #[test]
    fn an_encoded_manifest_parses_to_the_same_manifest() {
        let arriving = Role::Arriving { from: String::new() };
        let mut places =
            vec![manifest(), archived(), moved_away(), Manifest { role: arriving, ..manifest() }];
        let place = |file_system| Some(FolderPlace { inode: 5, created: 0, file_system });
        for file_system in [FileSystemId::Unknown, FileSystemId::Number(u64::MAX)] {
            places.push(Manifest { place: place(file_system), ..manifest() });
        }
        let nothing = Manifest {
            role: Role::Primary,
            state: State::Clean,
            place: None,
            run: Run::default(),
            active: ActiveSegment::NONE,
            sealed: None,
            restored_from: None,
            ..manifest()
        };
        for manifest in places.into_iter().chain([nothing]) {
            assert_eq!(Manifest::parse(&manifest.encode()), Ok(manifest));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = moved_away().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::parse(&flipped), Err(BadManifest::Damaged), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Manifest::parse(&bytes[..length]), Err(BadManifest::Damaged), "{length}");
        }
    }

    /// A newer version says which readers understand it.
    #[test]
    fn a_newer_manifest_is_read_only_if_it_says_so() {
        let newer = |format: u16, oldest: u16| {
            let (mut bytes, more) = (manifest().encode(), [5; 9]);
            bytes.extend(more);
            bytes[8..10].copy_from_slice(&format.to_le_bytes());
            bytes[10..12].copy_from_slice(&oldest.to_le_bytes());
            let length = (bytes.len() - HEADER) as u32;
            bytes[12..16].copy_from_slice(&length.to_le_bytes());
            let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[HEADER..]);
            bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
            bytes
        };
        assert_eq!(Manifest::parse(&newer(4, 1)), Ok(manifest()));
        assert_eq!(Manifest::parse(&newer(4, 4)), Err(BadManifest::Newer(4)));
    }

    #[test]
    fn only_a_known_run_is_the_same() {
        let run = manifest().run;
        assert!(run.is_same(&Run { nonce: [5; 16], ..run.clone() }));
        assert!(!run.is_same(&Run { mount: 78, ..run.clone() }));
        assert!(!run.is_same(&Run { boot: "another".to_owned(), ..run }));
        assert!(!Run::default().is_same(&Run::default()));
    }
}
