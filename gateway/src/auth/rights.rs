//! What can be done, and the table of the roles that may.

use engine::model::status::Role;

/// Something that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Make a festival. One who may is shown every festival.
    CreateFestivals,
    /// See, make and revoke operators' keys.
    ManageKeys,
    /// Status, policy, QR keys, zones, gates, categories.
    ManageFestival,
    /// See a festival, its live counts, who is inside, a ticket and its history, the access log.
    LookUp,
    /// Open, close, evacuate a zone.
    SteerZones,
    /// Issue tickets, list them, change their status, bind wristbands; fetch their QR.
    ManageTickets,
    /// Block a ticket, and let it go again.
    BlockTickets,
    /// Undo a scan as a supervisor.
    UndoScans,
    /// Let somebody in by hand, in spite of what may be overruled.
    AdmitByHand,
    /// Enrol, see and revoke readers and terminals.
    ManageDevices,
    /// Cashless policy, vendors, products.
    ManageCash,
    /// See stands and wallets, find or make a wallet, link wristbands and report them lost, give a wallet to an account.
    ServeWallets,
    /// Top up with cash, pay out what is left; let a terminal do the former.
    TakeCash,
    /// Pay, refund, transfer, block and unblock; see transactions and orders.
    MoveMoney,
    /// Correct a balance.
    CorrectBalances,
    /// See the books, settlements, sales.
    SeeBooks,
}

impl Right {
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.iter().copied().filter(move |&role| role_may(role, self))
    }

    /// Whether it concerns the whole installation, so that a key bound to festivals never has it.
    pub fn is_of_installation(self) -> bool {
        matches!(self, Self::CreateFestivals | Self::ManageKeys)
    }
}

/// The table of roles.
pub(super) fn role_may(role: Role, right: Right) -> bool {
    use Right::*;
    match role {
        Role::Admin => true,
        Role::Organizer => !matches!(right, CreateFestivals | ManageKeys | CorrectBalances),
        Role::Staff => {
            matches!(right, LookUp | ManageTickets | UndoScans | ManageDevices | ServeWallets | MoveMoney)
        }
        Role::Security => matches!(right, LookUp | SteerZones | BlockTickets | AdmitByHand),
        // At a cash desk, not at the gates.
        Role::Cashier => matches!(right, ServeWallets | TakeCash),
        // Comes with people's accounts.
        Role::User => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        use Right::*;
        let all = [
            CreateFestivals,
            ManageKeys,
            ManageFestival,
            LookUp,
            SteerZones,
            ManageTickets,
            BlockTickets,
            UndoScans,
            AdmitByHand,
            ManageDevices,
            ManageCash,
            ServeWallets,
            TakeCash,
            MoveMoney,
            CorrectBalances,
            SeeBooks,
        ];
        let table = Role::ALL.iter().map(|&role| all.map(|right| if role_may(role, right) { 'x' } else { '.' }));
        let table: Vec<String> = table.map(|row| row.iter().collect()).collect();
        assert_eq!(
            table,
            [
                "xxxxxxxxxx xxxxxx", // ADMIN
                "..xxxxxxxx xxxx.x", // ORGANIZER
                "...x.x.x.x .x.x..", // STAFF
                ".......... .xx...", // CASHIER
                "...xx.x.x. ......", // SECURITY
                ".......... ......", // USER
            ]
            .map(|row| row.replace(' ', ""))
        );
    }
}
