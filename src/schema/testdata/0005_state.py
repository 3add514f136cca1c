from django.db import migrations, models
import django.utils.timezone


class Migration(migrations.Migration):

    replaces = [('parcels', '0005_seen'), ('parcels', '0006_seen_index')]

    dependencies = [('parcels', '0004_run_sql'), ('auth', '0012_alter_user_first_name_max_length')]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[],
            state_operations=[
                migrations.AddField(
                    model_name='parcel',
                    name='seen',
                    field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
            ],
        ),
        migrations.RenameField('parcel', old_name='code', new_name='label'),
        migrations.AlterModelOptions(name='parcel', options={'permissions': (('survey', "Can't be undone"),)}),
    ]
