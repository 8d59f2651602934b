"""What a format works with: listing, ownership, policy, publishing."""
