//! Slots in eight bytes. Nearly all fit: the kind of recurrence, its days, the minute of the day, and the number of the zone.
//! One with several times, bounds, counted weekdays or a single date is kept whole, and what is packed is its number.

use std::collections::{HashMap, HashSet};

use crate::time::{
    bounds::Bounds,
    recurrence::{MonthDays, Recurrence, Weekdays},
    slot::Slot,
    times::TimeOfDay,
    zone::Zone,
};

/// A slot in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Packed(u64);

/// The kind of those that have a number.
const NUMBERED: u64 = 7;

impl Packed {
    fn number(self) -> Option<u32> {
        (self.0 & 7 == NUMBERED).then_some((self.0 >> 3) as u32)
    }
}

/// What packed slots refer to. The rules of their zones change only with [`take_zone_rules`](Self::take_zone_rules).
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Each once, with rules that all slots in it share.
    zones: Vec<Zone>,
    zone_numbers: HashMap<Zone, u32>,
    by_number: Vec<Option<Slot>>,
    numbers: HashMap<Slot, u32>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn pack(&mut self, slot: &Slot) -> Packed {
        let Some((kind, days, minute)) = plain(slot) else {
            return Packed(NUMBERED | u64::from(self.number(slot)) << 3);
        };
        let zone = self.zone_number(&slot.zone);
        Packed(kind | u64::from(days) << 3 | u64::from(minute) << 35 | u64::from(zone) << 46)
    }

    pub(super) fn unpack(&self, packed: Packed) -> Slot {
        if let Some(number) = packed.number() {
            return self.whole(number).clone();
        }
        let Packed(bits) = packed;
        let days = (bits >> 3) as u32;
        let recurrence = match bits & 7 {
            0 => Recurrence::Hourly,
            1 => Recurrence::Daily,
            2 => Recurrence::Weekly(Weekdays::from_bits(days as u8)),
            3 => Recurrence::Biweekly(Weekdays::from_bits(days as u8)),
            _ => Recurrence::Monthly(MonthDays::from_bits(days)),
        };
        let time = TimeOfDay::from_minute_of_day((bits >> 35) as u16 & 0x7ff);
        let zone = self.zones[(bits >> 46) as usize].clone();
        Slot::new(recurrence, time, zone)
    }

    /// The zone of a packed slot.
    pub(super) fn zone(&self, packed: Packed) -> &Zone {
        match packed.number() {
            Some(number) => &self.whole(number).zone,
            None => &self.zones[(packed.0 >> 46) as usize],
        }
    }

    /// Has the zones follow these rules. Those that they lack stay as they are. Returns the zones whose rules have changed, each
    /// with the rules that it had.
    pub(super) fn take_zone_rules(
        &mut self,
        rules: impl Fn(&str) -> Option<Zone>,
    ) -> HashMap<Zone, Zone> {
        let mut before = HashMap::new();
        for zone in &mut self.zones {
            if let Some(new) = rules(zone.name()).filter(|new| !new.has_rules_of(zone)) {
                let new = zone.with_rules_of(&new);
                before.insert(new.clone(), std::mem::replace(zone, new));
            }
        }
        if !before.is_empty() {
            for slot in self.by_number.iter_mut().flatten() {
                if let Some((new, _)) = before.get_key_value(&slot.zone) {
                    slot.zone = new.clone();
                }
            }
        }
        before
    }

    /// How many have a number.
    pub(super) fn numbered(&self) -> usize {
        self.numbers.len()
    }

    /// Forgets those with a number that are not among these.
    pub(super) fn keep_only(&mut self, used: &HashSet<Packed>) {
        let (by_number, free) = (&mut self.by_number, &mut self.free);
        self.numbers.retain(|_, number| {
            let is_used = used.contains(&Packed(NUMBERED | u64::from(*number) << 3));
            if !is_used {
                by_number[*number as usize] = None;
                free.push(*number);
            }
            is_used
        });
    }

    /// The slot with this number.
    fn whole(&self, number: u32) -> &Slot {
        let slot = self.by_number[number as usize].as_ref();
        slot.expect("a slot in which tenants stand is kept")
    }

    /// The number of a zone, which keeps the rules that it has when it is first met.
    fn zone_number(&mut self, zone: &Zone) -> u32 {
        if let Some(number) = self.zone_numbers.get(zone) {
            return *number;
        }
        let number = self.zones.len() as u32;
        self.zones.push(zone.pinned());
        self.zone_numbers.insert(zone.clone(), number);
        number
    }

    fn number(&mut self, slot: &Slot) -> u32 {
        if let Some(number) = self.numbers.get(slot) {
            return *number;
        }
        let zone = self.zone_number(&slot.zone);
        let pinned = Some(Slot {
            zone: self.zones[zone as usize].clone(),
            ..slot.clone()
        });
        let number = if let Some(number) = self.free.pop() {
            self.by_number[number as usize] = pinned;
            number
        } else {
            self.by_number.push(pinned);
            (self.by_number.len() - 1) as u32
        };
        self.numbers.insert(slot.clone(), number);
        number
    }
}

/// The kind, the days and the minute of a slot that they say all of, but for the zone.
fn plain(slot: &Slot) -> Option<(u64, u32, u16)> {
    let time = slot.times.only()?;
    if slot.bounds != Bounds::default() {
        return None;
    }
    let (kind, days) = match slot.recurrence {
        Recurrence::Hourly => (0, 0),
        Recurrence::Daily => (1, 0),
        Recurrence::Weekly(days) => (2, days.bits().into()),
        Recurrence::Biweekly(days) => (3, days.bits().into()),
        Recurrence::Monthly(days) => (4, days.bits()?),
        Recurrence::Once(_) => return None,
    };
    Some((kind, days, time.minute_of_day()))
}
