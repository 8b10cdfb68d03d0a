//! What the data plane and the control plane have in common and is neither's subject.
