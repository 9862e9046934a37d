"""Who sees what of all that is kept: one rule, asked wherever rows are read for somebody.

A row bears the tenant and the user that it was made for.

    the house                  sees every row
    somebody of a tenant       sees the rows of that tenant
    somebody without a tenant  sees the rows that bear no tenant and their own name
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody sees."""

    tenant: str | None = None
    """The tenant of the rows, empty for those that bear none; `None` for the house."""
    user: str = ""
    """Who they are; it counts where they have no tenant."""

    def within(self, tenant: str) -> "Sight":
        """What they see of the rows of that tenant: nothing, where it is another one's."""
        return Sight(tenant) if self.tenant in (None, tenant) else Sight("")

    def where(self, row: str = "") -> tuple[str, tuple[str, ...]]:
        """The rule as a condition of SQL on the columns `tenant` and `asker`, and its values.

        Args:
            row: the name of the table in the query, with a dot behind.
        """
        if self.tenant is None:
            return "1 = 1", ()
        # Some things are said twice, so that the indexes are known to hold all that is asked for.
        if self.tenant:
            return f"{row}tenant = ? AND {row}tenant <> ''", (self.tenant,)
        return f"{row}tenant = '' AND {row}asker = ? AND {row}asker <> ''", (self.user,)

    def sees(self, tenant: str, user: str) -> bool:
        """The rule for one row."""
        if self.tenant is None:
            return True
        return self.tenant == tenant and bool(self.tenant or (self.user and self.user == user))


EVERYTHING = Sight()
"""What the house sees, and whoever has the app's folder."""
