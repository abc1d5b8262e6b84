"""The governance worker: judges registrations, signs approvals, keeps every verdict."""
