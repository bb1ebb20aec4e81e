//! Cursors over bytes: one length check per field, and each error names its field.

use thiserror::Error;

/// Why bytes are not what they should be; the text names the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before or inside this field.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// Bytes follow the end of this structure.
    #[error("bytes follow the end of {0}")]
    Trailing(&'static str),
    /// This field has a value that it must not have.
    #[error("{0} has a value that is not defined")]
    Value(&'static str),
}

/// What is to be written does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no room left")]
pub struct Full;

/// Takes fields off the front of borrowed bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the first of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] with the name of the field if fewer are left; as for every method below.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated(field))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Truncated(field))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(|&[byte]| byte)
    }

    /// The next two bytes, big-endian.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// The next four bytes, big-endian.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The next eight bytes, big-endian.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// What was not taken yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Ends the reading of `structure`.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if bytes are left.
    pub const fn finish(self, structure: &'static str) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(structure)) }
    }
}

/// Writes fields one behind the other into a buffer of fixed length.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    written: usize,
}

impl<'a> Writer<'a> {
    /// A writer at the first byte of `buffer`.
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, written: 0 }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Full`] if they do not fit, and then nothing is written; as for every method below.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.written.checked_add(bytes.len()).ok_or(Full)?;
        self.buffer.get_mut(self.written..end).ok_or(Full)?.copy_from_slice(bytes);
        self.written = end;
        Ok(())
    }

    /// Writes one byte.
    pub fn u8(&mut self, number: u8) -> Result<(), Full> {
        self.put(&[number])
    }

    /// Writes two bytes, big-endian.
    pub fn u16(&mut self, number: u16) -> Result<(), Full> {
        self.put(&number.to_be_bytes())
    }

    /// Writes four bytes, big-endian.
    pub fn u32(&mut self, number: u32) -> Result<(), Full> {
        self.put(&number.to_be_bytes())
    }

    /// How many bytes were written.
    pub const fn written(&self) -> usize {
        self.written
    }

    /// How many bytes still fit.
    pub const fn room(&self) -> usize {
        self.buffer.len() - self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_takes_big_endian_fields_in_order() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 5, 6, 7]);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(2));
        assert_eq!(reader.u32("c"), Ok(3));
        assert_eq!(reader.u64("d"), Ok(4));
        assert_eq!(reader.take(1, "e"), Ok(&[5][..]));
        assert_eq!(reader.array("f"), Ok(&[6, 7]));
        assert_eq!(reader.finish("all"), Ok(()));
    }

    #[test]
    fn a_field_that_is_cut_short_is_named_and_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32("length"), Err(DecodeError::Truncated("length")));
        assert_eq!(reader.take(4, "data"), Err(DecodeError::Truncated("data")));
        assert_eq!(reader.rest(), &[1, 2, 3]);
    }

    #[test]
    fn bytes_behind_the_end_are_refused() {
        let mut reader = Reader::new(&[1, 2]);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.finish("thing"), Err(DecodeError::Trailing("thing")));
    }

    #[test]
    fn a_writer_writes_a_field_whole_or_not_at_all() {
        let mut buffer = [0xff; 5];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(writer.u8(1), Ok(()));
        assert_eq!(writer.u16(2), Ok(()));
        assert_eq!(writer.u32(3), Err(Full));
        assert_eq!((writer.written(), writer.room()), (3, 2));
        assert_eq!(writer.put(&[4, 5]), Ok(()));
        assert_eq!(buffer, [1, 0, 2, 4, 5]);
    }
}
