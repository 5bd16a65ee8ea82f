# SPDX-License-Identifier: Apache-2.0
"""Values become tables, files, pages and annotations. Nothing here measures or judges."""
