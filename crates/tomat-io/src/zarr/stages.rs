//! The codecs of a chunk from bytes to bytes, undone one by one, none of which may give more than belongs there.
//!
//! What the metadata say of a chunk (its shape and its type) fixes how many bytes come out of the last stage, and with
//! that how many can come out of any before it: a checksum adds four, a compressor makes little larger at worst. A few
//! bytes that unpack to more are refused before the memory is taken.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::num::NonZeroU64;
use std::sync::Arc;

use bytemuck::Pod;
use tomat_core::memory;
use zarrs::array::{
    ArrayBytes, ArrayToBytesCodecTraits, BytesRepresentation, BytesToBytesCodecTraits, CodecChain,
    CodecMetadataOptions, CodecOptions, DataType, ElementOwned, FillValue, FromArrayBytes,
};
use zstd::zstd_safe;
use zstd_safe::DCtx;

/// The most a byte of any codec here can grow to (a zstd block of 4 bytes holds 128 KiB of one value).
pub(super) const MAX_RATIO: u64 = 1 << 15;

/// Bytes of a CRC32C checksum.
const CHECKSUM: u64 = 4;

/// Why a chunk cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// What is wrong with it, and what to do.
    Wrong(String),
    /// So many bytes of memory were not given.
    Memory(usize),
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Self::Wrong(problem)
    }
}

type Result<T, E = Fault> = std::result::Result<T, E>;

/// How many bytes come out of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// So many.
    Exact(u64),
    /// What a compressor made of something: not more than so many.
    AtMost(u64),
}

impl Size {
    const fn most(self) -> u64 {
        match self {
            Self::Exact(n) | Self::AtMost(n) => n,
        }
    }

    /// Whether `n` bytes are what belongs here.
    const fn fits(self, n: u64) -> bool {
        match self {
            Self::Exact(size) => n == size,
            Self::AtMost(size) => n <= size,
        }
    }

    /// Of what a checksum was added to.
    const fn with_checksum(self) -> Self {
        match self {
            Self::Exact(n) => Self::Exact(n.saturating_add(CHECKSUM)),
            Self::AtMost(n) => Self::AtMost(n.saturating_add(CHECKSUM)),
        }
    }

    /// Of what a compressor made of it. No compressor here adds more than an eighth and its frame, at any setting.
    const fn compressed(self) -> Self {
        let n = self.most();
        Self::AtMost(n.saturating_add(n / 8).saturating_add(1 << 16))
    }

    fn wrong(self, n: impl fmt::Display, name: &str) -> Fault {
        let belong = match self {
            Self::Exact(size) => format!("{size} belong"),
            Self::AtMost(size) => format!("at most {size} belong"),
        };
        Fault::Wrong(format!("its {name} data holds {n} bytes where {belong}; copy the folder again"))
    }
}

/// A codec from bytes to bytes that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Zstd,
    Blosc,
    Crc32c,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            "blosc" => Some(Self::Blosc),
            "crc32c" => Some(Self::Crc32c),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Blosc => "blosc",
            Self::Crc32c => "crc32c",
        }
    }
}

/// The codecs of an array, those from bytes to bytes apart.
#[derive(Debug)]
pub(super) struct Stages {
    /// From values to bytes and back.
    values: CodecChain,
    /// Whether the bytes are those of the values in the memory of this machine.
    plain: bool,
    /// From bytes to bytes, in the order of the metadata: the last is undone first.
    bytes: Vec<(Kind, Arc<dyn BytesToBytesCodecTraits>)>,
}

impl Stages {
    /// # Errors
    /// A codec that is not known here: what it is called, and what to do.
    pub(super) fn new(chain: &CodecChain) -> Result<Self, String> {
        let name = chain.array_to_bytes_codec().name_v3().unwrap_or_default();
        if name == "sharding_indexed" {
            return Err(
                "is sharded, where a missing part would read as zeros; write it without shards".to_owned()
            );
        }
        if name != "bytes" {
            return Err(format!("is written with the codec {name:?}; write it again with \"bytes\""));
        }
        let known = |codec: &Arc<dyn BytesToBytesCodecTraits>| {
            let name = codec.name_v3().unwrap_or_default();
            Kind::named(&name).map(|kind| (kind, Arc::clone(codec))).ok_or_else(|| {
                format!("is packed with the codec {name:?}; write it again with zstd, gzip, blosc or crc32c")
            })
        };
        let bytes = chain.bytes_to_bytes_codecs().iter().map(known).collect::<Result<_, _>>()?;
        let settings = chain.array_to_bytes_codec().configuration_v3(&CodecMetadataOptions::default());
        let endian = settings.as_ref().and_then(|settings| settings.get("endian")?.as_str());
        let native = if cfg!(target_endian = "little") { "little" } else { "big" };
        let plain = chain.array_to_array_codecs().is_empty() && endian == Some(native);
        let values = CodecChain::new(
            chain.array_to_array_codecs().to_vec(),
            Arc::clone(chain.array_to_bytes_codec()),
            Vec::new(),
        );
        Ok(Self { values, plain, bytes })
    }

    /// The stages of a chunk.
    ///
    /// # Errors
    /// A codec that cannot be used on such values.
    pub(super) fn of_chunk<'a>(
        &'a self,
        shape: &'a [NonZeroU64],
        data_type: &'a DataType,
        fill_value: &'a FillValue,
    ) -> Result<Chunk<'a>> {
        let unusable =
            |e: &dyn fmt::Display| Fault::Wrong(format!("its codecs cannot be used: {e}; write it again"));
        let (mut inner, mut kind, mut fill) = (shape.to_vec(), data_type.clone(), fill_value.clone());
        for codec in self.values.array_to_array_codecs() {
            (inner, kind, fill) =
                codec.encoded_representation(&inner, &kind, &fill).map_err(|e| unusable(&e))?;
        }
        let inner = self.values.array_to_bytes_codec().encoded_representation(&inner, &kind, &fill);
        let BytesRepresentation::FixedSize(expected) = inner.map_err(|e| unusable(&e))? else {
            return Err(unusable(&"the size of their values is not known"));
        };
        let mut sizes = vec![Size::Exact(expected)];
        let mut stored = Size::Exact(expected);
        for (kind, _) in &self.bytes {
            stored = if *kind == Kind::Crc32c { stored.with_checksum() } else { stored.compressed() };
            sizes.push(stored);
        }
        sizes.pop();
        Ok(Chunk { stages: self, shape, data_type, fill_value, expected, sizes, stored })
    }
}

/// The stages of one chunk, with how much comes out of each.
pub(super) struct Chunk<'a> {
    stages: &'a Stages,
    shape: &'a [NonZeroU64],
    data_type: &'a DataType,
    fill_value: &'a FillValue,
    /// Bytes of its values.
    expected: u64,
    /// What comes out of each stage, in the order of the metadata.
    sizes: Vec<Size>,
    /// What is stored.
    stored: Size,
}

impl Chunk<'_> {
    /// # Errors
    /// A number of stored bytes that cannot be those of the chunk.
    pub(super) fn check_stored(&self, n: u64) -> Result<()> {
        if !self.stored.fits(n) {
            return Err(self.stored.wrong(n, "stored"));
        }
        if self.expected > n.saturating_mul(MAX_RATIO) {
            return Err(Fault::Wrong(format!(
                "its {n} bytes cannot hold {:?} values; the folder is damaged, copy it again",
                self.shape
            )));
        }
        Ok(())
    }

    /// The values.
    ///
    /// # Errors
    /// Data that is damaged, or that holds more or less than the values of the chunk.
    pub(super) fn decode<T: ElementOwned + Pod>(&self, encoded: Cow<'_, [u8]>) -> Result<Vec<T>> {
        self.check_stored(encoded.len() as u64)?;
        let mut bytes = encoded;
        for (i, ((kind, codec), &size)) in self.stages.bytes.iter().zip(&self.sizes).enumerate().rev() {
            if (i, *kind, self.stages.plain) == (0, Kind::Zstd, true)
                && let Some(n) = told_size(&bytes, size)?
            {
                return unpack_values(&bytes, n);
            }
            bytes = undo(*kind, codec.as_ref(), bytes, size)?;
        }
        if self.stages.plain && bytes.len() as u64 == self.expected {
            return copy_values(&bytes);
        }
        room_for(self.expected)?;
        let damaged = |e: &dyn fmt::Display| {
            Fault::Wrong(format!("it is damaged or cut off ({e}); copy the folder again"))
        };
        let (shape, options) = (self.shape, CodecOptions::default());
        let values = self.stages.values.decode(bytes, shape, self.data_type, self.fill_value, &options);
        let values: ArrayBytes<'static> = values.map_err(|e| damaged(&e))?.into_owned();
        let shape: Vec<u64> = shape.iter().map(|n| n.get()).collect();
        Vec::<T>::from_array_bytes(values, &shape, self.data_type).map_err(|e| Fault::Wrong(e.to_string()))
    }
}

/// Undoes one stage, which must give as much as `size` says.
fn undo<'a>(
    kind: Kind,
    codec: &dyn BytesToBytesCodecTraits,
    encoded: Cow<'a, [u8]>,
    size: Size,
) -> Result<Cow<'a, [u8]>> {
    let decoded = match kind {
        Kind::Zstd => Cow::Owned(undo_zstd(&encoded, size)?),
        Kind::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(encoded.as_ref());
            Cow::Owned(unpack(decoder, encoded.len(), size, kind)?)
        }
        Kind::Crc32c if has_checksum_at_end(codec, &encoded) => without_checksum(encoded),
        Kind::Blosc | Kind::Crc32c => {
            if kind == Kind::Blosc {
                check_blosc(&encoded, size)?;
            }
            room_for(size.most().min((encoded.len() as u64).saturating_mul(MAX_RATIO)))?;
            let representation = BytesRepresentation::BoundedSize(size.most());
            codec.decode(encoded, &representation, &CodecOptions::default()).map_err(|e| damaged(kind, &e))?
        }
    };
    if size.fits(decoded.len() as u64) {
        return Ok(decoded);
    }
    Err(size.wrong(decoded.len(), kind.name()))
}

/// Whether the last bytes are the checksum of those before. The codec itself copies what it checks: it is asked only
/// where they are not, for it may keep its checksum elsewhere, or says what is wrong.
fn has_checksum_at_end(codec: &dyn BytesToBytesCodecTraits, encoded: &[u8]) -> bool {
    let settings = codec.configuration_v3(&CodecMetadataOptions::default());
    let place = settings.as_ref().and_then(|settings| settings.get("location"));
    place.is_none_or(|place| place == "end")
        && encoded
            .split_last_chunk::<{ CHECKSUM as usize }>()
            .is_some_and(|(data, stored)| crc32c::crc32c(data).to_le_bytes() == *stored)
}

fn without_checksum(encoded: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let n = encoded.len() - CHECKSUM as usize;
    match encoded {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..n]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(n);
            Cow::Owned(bytes)
        }
    }
}

/// One frame, and nothing after it: how many bytes it says that it holds, where it does and so few bytes can.
fn told_size(encoded: &[u8], size: Size) -> Result<Option<u64>> {
    let frame = zstd_safe::find_frame_compressed_size(encoded)
        .map_err(|_| "its zstd frame is damaged or cut off; copy the folder again".to_owned())?;
    if frame != encoded.len() {
        let left = encoded.len() - frame;
        return Err(Fault::Wrong(format!("{left} bytes follow its zstd frame; copy the folder again")));
    }
    let Ok(Some(n)) = zstd_safe::get_frame_content_size(encoded) else { return Ok(None) };
    if !size.fits(n) {
        return Err(size.wrong(n, Kind::Zstd.name()));
    }
    Ok(Some(n).filter(|&n| n <= (encoded.len() as u64).saturating_mul(MAX_RATIO)))
}

fn undo_zstd(encoded: &[u8], size: Size) -> Result<Vec<u8>> {
    let Some(n) = told_size(encoded, size)? else {
        let decoder =
            zstd::stream::read::Decoder::with_buffer(encoded).map_err(|e| damaged(Kind::Zstd, &e))?;
        return unpack(decoder, encoded.len(), size, Kind::Zstd);
    };
    let mut decoded = room(n)?;
    unpack_frame(encoded, &mut decoded)?;
    Ok(decoded)
}

/// A frame of `n` bytes, unpacked to where the values are to stay.
fn unpack_values<T: Pod>(encoded: &[u8], n: u64) -> Result<Vec<T>> {
    let mut values = room::<T>(n)?;
    values.resize(n as usize / size_of::<T>(), T::zeroed());
    let place: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    let written = unpack_frame(encoded, place)?;
    if written as u64 == n {
        return Ok(values);
    }
    Err(Size::Exact(n).wrong(written, Kind::Zstd.name()))
}

/// Unpacks a whole frame in one go, which takes no window beside what it writes.
fn unpack_frame(encoded: &[u8], place: &mut (impl zstd_safe::WriteBuf + ?Sized)) -> Result<usize> {
    thread_local! {
        static CONTEXT: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        if context.is_none() {
            *context = DCtx::try_create();
        }
        let context = context.as_mut().ok_or(Fault::Memory(encoded.len()))?;
        context
            .decompress(place, encoded)
            .map_err(|code| damaged(Kind::Zstd, &zstd_safe::get_error_name(code)))
    })
}

/// The values whose bytes these are.
fn copy_values<T: Pod>(bytes: &[u8]) -> Result<Vec<T>> {
    let mut values = room(bytes.len() as u64)?;
    values.extend(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>));
    Ok(values)
}

/// An empty vector with room for values of `n` bytes.
fn room<T>(n: u64) -> Result<Vec<T>> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    memory::with_room(n / size_of::<T>()).map_err(|_| Fault::Memory(n))
}

/// Reads to the end, or one byte further than may come.
fn unpack(reader: impl Read, encoded: usize, size: Size, kind: Kind) -> Result<Vec<u8>> {
    let mut decoded = Vec::new();
    if let Size::Exact(n) = size {
        // Room for what comes in one piece; not more than so few bytes can give.
        let room = n.min((encoded as u64).saturating_mul(MAX_RATIO)).saturating_add(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        decoded.try_reserve_exact(room).map_err(|_| Fault::Memory(room))?;
    }
    match reader.take(size.most().saturating_add(1)).read_to_end(&mut decoded) {
        Err(error) if error.kind() == ErrorKind::OutOfMemory => {
            Err(Fault::Memory(usize::try_from(size.most()).unwrap_or(usize::MAX)))
        }
        Err(error) => Err(damaged(kind, &error)),
        Ok(n) if n as u64 > size.most() => Err(size.wrong(format!("more than {}", size.most()), kind.name())),
        Ok(_) => Ok(decoded),
    }
}

/// The size in the header of a blosc buffer is what it unpacks to.
fn check_blosc(encoded: &[u8], size: Size) -> Result<()> {
    let says = encoded.get(4..8).and_then(|n| n.try_into().ok()).map(|n| u64::from(u32::from_le_bytes(n)));
    let Some(n) = says.filter(|_| encoded.len() >= 16) else {
        return Err(Fault::Wrong("its blosc buffer is cut off; copy the folder again".to_owned()));
    };
    if !size.fits(n) {
        return Err(size.wrong(n, Kind::Blosc.name()));
    }
    if n > (encoded.len() as u64).saturating_mul(MAX_RATIO) {
        let length = encoded.len();
        return Err(Fault::Wrong(format!(
            "its blosc buffer of {length} bytes says it holds {n}; copy the folder again"
        )));
    }
    Ok(())
}

/// Codecs of other crates take their memory without asking: so it is asked for here.
fn room_for(n: u64) -> Result<()> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    Vec::<u8>::new().try_reserve_exact(n).map_err(|_| Fault::Memory(n))
}

fn damaged(kind: Kind, error: &dyn fmt::Display) -> Fault {
    Fault::Wrong(format!("its {} data is damaged or cut off ({error}); copy the folder again", kind.name()))
}
