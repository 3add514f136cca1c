from django.db import migrations

SQL = """
    CREATE VIEW big_parcels AS
    SELECT p.id, p.code  -- the code, as printed
    FROM parcels_parcel p
    WHERE p.hectares > 100 AND p.code <> 'it''s'
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("parcels", "0003_backfill"),
    ]
    operations = [
        migrations.RunSQL(SQL, reverse_sql="DROP VIEW big_parcels"),
        migrations.RunSQL(
            [("INSERT INTO parcels_unit (code) VALUES (%s)", ["ha"])],
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL('SELECT 1 WHERE "a" <> \'b\'' ' AND true'),
    ]
