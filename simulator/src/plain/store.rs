//! What Plain holds. Addresses and external ids are each taken once.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlainCustomerRecord, PlainRequestRecord, PlainTenantRecord};

#[derive(Debug)]
pub(in crate::plain) struct PlainStore {
    tiers: Vec<String>,
    /// By external id.
    pub(in crate::plain) tenants: BTreeMap<String, Tenant>,
    pub(in crate::plain) customers: Vec<Customer>,
    pub(in crate::plain) requests: Vec<PlainRequestRecord>,
    made: u64,
}

#[derive(Debug, Clone)]
pub(in crate::plain) struct Tenant {
    pub(in crate::plain) id: String,
    pub(in crate::plain) name: String,
    pub(in crate::plain) tier: Option<String>,
}

#[derive(Debug, Clone)]
pub(in crate::plain) struct Customer {
    pub(in crate::plain) id: String,
    pub(in crate::plain) external_id: Option<String>,
    pub(in crate::plain) email: String,
    pub(in crate::plain) full_name: String,
    pub(in crate::plain) tenants: BTreeSet<String>,
}

impl PlainStore {
    pub(in crate::plain) fn new(tiers: Vec<String>) -> Self {
        Self {
            tiers,
            tenants: BTreeMap::new(),
            customers: Vec::new(),
            requests: Vec::new(),
            made: 0,
        }
    }

    pub(in crate::plain) fn fresh_id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}_{:06}", self.made)
    }

    pub(in crate::plain) fn has_tier(&self, tier: &str) -> bool {
        self.tiers.iter().any(|known| known == tier)
    }

    pub(in crate::plain) fn by_email(&self, email: &str) -> Option<usize> {
        let same = |row: &Customer| row.email.eq_ignore_ascii_case(email);
        self.customers.iter().position(same)
    }

    pub(in crate::plain) fn by_external_id(&self, external_id: &str) -> Option<usize> {
        let same = |row: &Customer| row.external_id.as_deref() == Some(external_id);
        self.customers.iter().position(same)
    }

    pub(in crate::plain) fn assign(&mut self, tenant: &str, tier: Option<String>) {
        if let Some(row) = self.tenants.get_mut(tenant) {
            row.tier = tier;
        }
    }

    pub(in crate::plain) fn remove_tenant(&mut self, tenant: &str) {
        self.tenants.remove(tenant);
        for row in &mut self.customers {
            row.tenants.remove(tenant);
        }
    }

    pub(in crate::plain) fn enter(&mut self, email: &str, external_id: Option<&str>) {
        let id = self.fresh_id("c");
        self.customers.push(Customer {
            id,
            external_id: external_id.map(str::to_owned),
            email: email.to_owned(),
            full_name: email.to_owned(),
            tenants: BTreeSet::new(),
        });
    }

    pub(in crate::plain) fn customers(&self) -> Vec<PlainCustomerRecord> {
        let mut rows: Vec<_> = self
            .customers
            .iter()
            .map(|row| PlainCustomerRecord {
                id: row.id.clone(),
                external_id: row.external_id.clone(),
                email: row.email.clone(),
                full_name: row.full_name.clone(),
                tenants: row.tenants.iter().cloned().collect(),
            })
            .collect();
        rows.sort_by(|a, b| a.email.cmp(&b.email));
        rows
    }

    pub(in crate::plain) fn tenants(&self) -> Vec<PlainTenantRecord> {
        let row = |(external_id, row): (&String, &Tenant)| PlainTenantRecord {
            id: row.id.clone(),
            external_id: external_id.clone(),
            name: row.name.clone(),
            tier: row.tier.clone(),
        };
        self.tenants.iter().map(row).collect()
    }
}
