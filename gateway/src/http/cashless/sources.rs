//! What money came from, by the name of its account in the books.

use engine::cashless::command::{Source, SourceKind};
use engine::model::ids::{DeviceId, ProviderNo};

/// The name of a source's account: one for each terminal and desk, and one for all cards of a provider, all bank transfers
/// and all gifts of a festival. The first provider there was has no number in it.
pub fn source_account(source: Source) -> String {
    let word = source.kind.word();
    match (source.kind, source.number) {
        (SourceKind::Correction, _) => "corrections".into(),
        (SourceKind::Card, _) if source.provider != ProviderNo::STRIPE => {
            format!("{word}-{}/{}", source.provider.0, source.festival)
        }
        (SourceKind::Card | SourceKind::Bank | SourceKind::Gift, _) => format!("{word}/{}", source.festival),
        // Several of one kind, where a wallet has had money from too many.
        (SourceKind::Terminal | SourceKind::Desk, Source::SEVERAL) => format!("{word}/{}-several", source.festival),
        (SourceKind::Terminal, number) => format!("{word}/{}", DeviceId::new(source.festival, number as u32)),
        (SourceKind::Desk, number) => format!("{word}/{}-{number}", source.festival),
    }
}
