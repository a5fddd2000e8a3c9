//! Any event that a table declares, made from what record.proto says of it and from nothing else: a table's new event is
//! among them by itself.

use std::sync::LazyLock;

use engine::record::table::{FieldText, MessageText};

static TABLES: LazyLock<Vec<(&str, Vec<MessageText>)>> = LazyLock::new(engine::record::describe);

/// A message's fields: type, name, number.
type Fields = Vec<(String, String, u32)>;

/// The kinds of events, or of messages between shards.
pub(crate) fn kinds(of: &[&str]) -> Vec<&'static MessageText> {
    TABLES.iter().filter(|(name, _)| of.contains(name)).flat_map(|(_, messages)| messages).collect()
}
pub(crate) const EVENTS: &[&str] = &["Event", "DoneByHand", "CashlessEvent"];
pub(crate) const MESSAGES: &[&str] = &["Entry", "Message"];

/// Draws what a field can hold. The same number draws the same.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    /// A record of one event of this kind, as it is written. Many are refused: not every number is a status.
    pub(crate) fn record(&mut self, kind: &MessageText) -> Vec<u8> {
        let event = delimited(kind.number, &self.message(&fields(&kind.fields)));
        [varint(1 << 3), varint(engine::record::FORMAT.into()), delimited(5, &event)].concat()
    }

    /// One of so many.
    fn draw(&mut self, below: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % below as u64) as usize
    }

    fn word(&mut self) -> u64 {
        let any = (self.draw(usize::MAX) as u64) << 1 ^ self.draw(usize::MAX) as u64;
        [0, 1, u64::MAX, any, any][self.draw(5)]
    }

    /// All fields of a message, by number. What is zero or empty is left out.
    fn message(&mut self, fields: &Fields) -> Vec<u8> {
        let mut fields = fields.clone();
        fields.sort_by_key(|(.., number)| *number);
        fields.iter().flat_map(|(proto, name, number)| self.field(proto, name, *number)).collect()
    }

    fn field(&mut self, proto: &str, name: &str, number: u32) -> Vec<u8> {
        let unless_zero = |value: u64, bytes: Vec<u8>| if value == 0 { Vec::new() } else { bytes };
        match proto {
            "bool" => {
                let yes = self.draw(2) as u64;
                unless_zero(yes, [key(number, 0), varint(yes)].concat())
            }
            "uint32" => {
                let value = self.small();
                unless_zero(value, [key(number, 0), varint(value)].concat())
            }
            "uint64" => {
                let value = self.word();
                unless_zero(value, [key(number, 0), varint(value)].concat())
            }
            "sint64" => {
                let value = self.word(); // zigzag: any word is some number
                unless_zero(value, [key(number, 0), varint(value)].concat())
            }
            "fixed32" => {
                let value = self.word() as u32;
                unless_zero(value.into(), [key(number, 5), value.to_le_bytes().to_vec()].concat())
            }
            "fixed64" => {
                let value = match self.word() {
                    // A ticket's id says in some of its bits that it is one.
                    any if name.ends_with("_high") => any & !0xF000 | 0x8000,
                    any if name.ends_with("_low") => any & !(3 << 62) | 2 << 62,
                    any => any,
                };
                unless_zero(value, [key(number, 1), value.to_le_bytes().to_vec()].concat())
            }
            "string" => {
                let text = ["", "Night", "Bühne 2 · Süd", "a\nb"][self.draw(4)];
                unless_zero(text.len() as u64, delimited(number, text.as_bytes()))
            }
            "bytes" => {
                let lengths = [0, 4, 7, 10, 16, 32];
                // The tag that takes another's place, with an operation behind it: without a tag there is none.
                let len = if name == "to" { lengths[1 + self.draw(3)] } else { lengths[self.draw(6)] };
                let bytes: Vec<u8> = (0..len).map(|_| self.draw(256) as u8).collect();
                unless_zero(len as u64, delimited(number, &bytes))
            }
            "optional uint32" if self.draw(2) == 0 => Vec::new(),
            "optional uint32" => [key(number, 0), varint(self.small())].concat(),
            "repeated fixed32" => {
                let count = self.draw(4);
                let packed: Vec<u8> = (0..count).flat_map(|_| (self.word() as u32).to_le_bytes()).collect();
                unless_zero(packed.len() as u64, delimited(number, &packed))
            }
            "repeated Lot" => (0..self.draw(4)).flat_map(|_| self.lot(number)).collect(),
            // Where nothing may be named, and where it may not: that is refused.
            "TagTarget" if self.draw(4) == 0 => Vec::new(),
            "TagTarget" => {
                let of_ticket = self.draw(2) == 0;
                let named = match of_ticket {
                    true => self.message(&by_hand(&["fixed64 ticket_high 3", "fixed64 ticket_low 4"])),
                    false => [vec![9, 1, 2, 3, 4, 5, 6, 7, 8], self.field("uint32", "version", 2)].concat(),
                };
                delimited(number, &named)
            }
            "Message" => {
                let kinds = kinds(MESSAGES);
                let kind = kinds[self.draw(kinds.len())];
                delimited(number, &delimited(kind.number, &self.message(&fields(&kind.fields))))
            }
            part => {
                let part = kinds(&["parts"]).into_iter().find(|of| of.name == part).expect("a message that there is");
                delimited(number, &self.message(&fields(&part.fields)))
            }
        }
    }

    /// Numbers of statuses, rejections, zones, gates; two currencies.
    fn small(&mut self) -> u64 {
        let any = self.draw(70) as u64;
        [0, 1, 2, 3, 63, any, any, 0xFFFF, u64::from(u32::MAX), 0x45_55_52, 0x4A_50_59][self.draw(11)]
    }

    fn lot(&mut self, number: u32) -> Vec<u8> {
        let kind = 1 + self.draw(6) as u8;
        let rest = self.message(&by_hand(&["fixed32 festival 2", "uint64 number 3"]));
        delimited(number, &[vec![8, kind], rest, vec![4 << 3, 14]].concat())
    }
}

fn fields(described: &[FieldText]) -> Fields {
    described.iter().map(|field| (field.proto.clone(), field.name.clone(), field.number)).collect()
}

fn by_hand(described: &[&str]) -> Fields {
    let words = described.iter().map(|field| field.split(' ').collect::<Vec<_>>());
    words.map(|field| (field[0].to_owned(), field[1].to_owned(), field[2].parse().expect("a number"))).collect()
}

fn key(number: u32, wire: u32) -> Vec<u8> {
    varint(u64::from(number << 3 | wire))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn delimited(number: u32, body: &[u8]) -> Vec<u8> {
    [key(number, 2), varint(body.len() as u64), body.to_vec()].concat()
}
